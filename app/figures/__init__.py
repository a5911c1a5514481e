"""The tables of what reports hold: drift statistics, performance metrics, data-quality checks."""
