"""Tables in files: what the commands read."""
