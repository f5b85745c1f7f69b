"""The levels above the dynamics and the segments they learn from."""
