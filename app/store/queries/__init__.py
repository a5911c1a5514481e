"""Statements on each table, for both databases."""
