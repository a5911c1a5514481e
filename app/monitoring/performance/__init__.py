"""Realised performance."""
