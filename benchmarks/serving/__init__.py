"""Helpers of ``benchmarks/serving.py``: models, servers to compare with, a load generator, tables."""
