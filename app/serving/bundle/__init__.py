"""Model bundles: making them, reading them."""
