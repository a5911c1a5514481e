"""The configuration: its keys, their types, and the reader of the file."""
