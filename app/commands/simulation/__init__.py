"""Traffic and drift for plumbline simulate."""
