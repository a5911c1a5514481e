"""Channels that carry messages to people and systems."""
