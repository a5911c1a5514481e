"""Does the drift verdict keep its promises? Simulations of the code that judges, and its cost."""
