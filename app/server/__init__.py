"""The HTTP server: uvicorn, with a fast path of its own in front of it for plain requests."""
