"""The native runtime: arithmetic of our own in C, the same bits on every processor; numpy alone, no torch."""
