"""Rules that turn reports into findings."""
