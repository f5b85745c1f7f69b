"""Planning beside other people's: the same models, the same budgets, the same states, in one run."""
