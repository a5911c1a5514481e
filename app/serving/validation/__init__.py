"""Validation of request bodies against a model's schema."""
