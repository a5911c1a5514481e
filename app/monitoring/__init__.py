"""Is the model still true? Statistics, checks and the scheduler that runs them."""
