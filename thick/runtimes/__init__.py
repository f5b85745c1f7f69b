"""Runtimes: what runs the arithmetic of a checkpoint."""
