"""The write path: many callers, one transaction."""
