"""Performance estimated without labels."""
