"""Intervals for what was measured: rates, and means over seeds and episodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Z95 = 1.959963984540054


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """The Wilson score interval of a rate (Wilson, 1927); (0, 1) where nothing was tried.

    Raises:
        ValueError: more successes than trials, or negative numbers.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes: expected 0 to {trials} (trials), got {successes}")
    if trials == 0:
        return 0.0, 1.0
    rate, square = successes / trials, z * z / trials
    middle = (rate + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def interquartile_mean(values: np.ndarray) -> float:
    """Mean of the middle half of all values (Agarwal et al., NeurIPS 2021): a quarter is cut off at each end."""
    ordered = np.sort(np.asarray(values, np.float64), axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def stratified_bootstrap(
    strata: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], float] = interquartile_mean,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile interval: the runs of each stratum (a task) are drawn again with replacement.

    Args:
        strata: for each task the scores of its runs.
        statistic: of all drawn scores together.
        draws, level, seed: of the bootstrap.

    Raises:
        ValueError: a stratum is empty.
    """
    if not strata or any(len(scores) == 0 for scores in strata):
        raise ValueError("strata: expected at least one run of every task")
    rng = np.random.default_rng(seed)
    found = [
        statistic(np.concatenate([scores[rng.integers(len(scores), size=len(scores))] for scores in strata]))
        for _ in range(draws)
    ]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
