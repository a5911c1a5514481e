"""The tables of statistics, metrics and checks that reports hold."""
