"""The benchmark of training takes a run apart by names of its methods: they are still there."""

from __future__ import annotations

import pytest

from benchmarks.training import measure


@pytest.mark.slow
def test_a_run_is_taken_apart() -> None:
    row = measure("dreamer", "small", 1, 1)
    assert row.ratio > 0 and row.loop > 0
    assert set(row.shares) == {"collection", "data", "world", "behaviour", "optimiser", "other"}
    assert sum(row.shares.values()) == pytest.approx(1)
