"""Benchmarks of realised performance."""
