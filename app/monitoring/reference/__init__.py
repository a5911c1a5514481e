"""The reference: rows that a window is compared with."""
