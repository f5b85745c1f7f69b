"""Several rings as one."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.test_replay import FIELDS, fill
from thick.data.mixture import Mixture
from thick.data.replay import Field, ReplayRing


def _ring(streams: int, steps: int, first: int) -> ReplayRing:
    ring = ReplayRing(FIELDS, streams=streams, capacity=200)
    fill(ring, steps)
    for _ in range(1):
        ring._arrays["step"] += first
    return ring


def test_windows_come_from_all_rings_in_proportion_to_what_they_hold() -> None:
    mixture = Mixture([_ring(3, 100, 0), _ring(1, 103, 1000)])
    window = mixture.sample(4000, 4, np.random.default_rng(0))
    assert window["step"].shape == (4000, 4)
    assert (np.diff(window["step"], axis=1) == 1).all()
    share = (window["step"][:, 0] >= 1000).mean()
    assert share == pytest.approx(100 / (3 * 97 + 100), abs=0.02)
    assert len(mixture) == 403


def test_a_ring_that_is_too_short_yet_is_left_out() -> None:
    mixture = Mixture([_ring(2, 50, 0), _ring(2, 3, 1000)])
    assert mixture.sample(200, 4, np.random.default_rng(0))["step"].max() < 1000


def test_one_ring_alone_is_sampled_as_by_itself() -> None:
    ring = _ring(2, 50, 0)
    one = Mixture([ring]).sample(8, 4, np.random.default_rng(3), from_start=0.5)
    two = ring.sample(8, 4, np.random.default_rng(3), from_start=0.5)
    assert all(np.array_equal(one[name], two[name]) for name in two)


def test_rings_of_other_fields_do_not_mix() -> None:
    other = ReplayRing({**FIELDS, "reward": Field((), "<f4")}, streams=1, capacity=4)
    with pytest.raises(ValueError, match="other fields"):
        Mixture([_ring(1, 5, 0), other])
