"""How many alerts does a stable service tell in a month? Months simulated through the code that watches."""
