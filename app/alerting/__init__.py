"""Rules over reports, and who is told."""
