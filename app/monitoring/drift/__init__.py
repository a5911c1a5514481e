"""Drift of features, predictions and their joint distribution."""
