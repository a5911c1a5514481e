"""The service watches itself: errors, latency, outages, new versions."""
