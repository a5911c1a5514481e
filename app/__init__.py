"""Plumbline: serve a model, and know when it stops being true."""
