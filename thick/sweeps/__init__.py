"""Many runs from one file: a grid of configurations, a queue of processes, one table of results."""
