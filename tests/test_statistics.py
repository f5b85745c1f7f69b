"""Intervals against published values and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from thick.statistics import interquartile_mean, stratified_bootstrap, wilson


def test_wilson_gives_the_textbook_s_intervals() -> None:
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        assert wilson(successes, trials) == pytest.approx((low, high), abs=6e-5)
    assert wilson(0, 0) == (0.0, 1.0) and wilson(20, 20)[1] == 1.0
    with pytest.raises(ValueError, match="expected 0 to 3"):
        wilson(4, 3)


def test_the_interquartile_mean_leaves_the_outer_quarters_out() -> None:
    assert interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -50])) == 3.5
    assert interquartile_mean(np.array([1.0, 3.0])) == 2.0


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        strata = [rng.normal(mean, 1, 20) for mean in (0.0, 1.0)]
        low, high = stratified_bootstrap(strata, lambda x: float(x.mean()), draws=200, seed=trial)
        covered += low <= 0.5 <= high
    assert 50 <= covered <= 60
    with pytest.raises(ValueError, match="every task"):
        stratified_bootstrap([np.array([])])
