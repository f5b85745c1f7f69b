"""Experience: a replay ring and the collection that fills it (numpy only)."""
