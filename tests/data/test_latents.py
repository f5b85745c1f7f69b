"""Windows that go on from the state that the model had at the step before."""

from __future__ import annotations

import numpy as np
import pytest

from thick.data.latents import Latents
from thick.data.mixture import Mixture
from thick.data.replay import Field, ReplayRing

FIELDS = {"is_first": Field((), "bool"), "number": Field((), "int64")}
EPISODE = 7


def ring(steps: int, *, streams: int = 2, capacity: int = 40, offset: int = 0) -> ReplayRing:
    """Episodes of seven steps; every step has a number of its own."""
    made = ReplayRing(FIELDS, streams=streams, capacity=capacity)
    add(made, steps, offset)
    return made


def add(made: ReplayRing, steps: int, offset: int = 0) -> None:
    for _ in range(steps):
        step = made.written
        number = offset + 1000 * np.arange(made.streams) + step
        made.add({"is_first": np.full(made.streams, step % EPISODE == 0), "number": number})


def remembered(latents: Latents, window: dict[str, np.ndarray]) -> None:
    """Keep states that say of which step they are: z by the number modulo 50, memory by a share of it."""
    number = window["number"]
    stoch = np.stack([number % 50, number % 7], -1)
    latents.keep(window, stoch, (number / 4096)[..., None].repeat(3, -1))


def latents_of(*rings: ReplayRing) -> Latents:
    return Latents(rings, stoch=2, classes=50, memory=3)


def test_a_window_goes_on_from_the_step_before_it_where_that_is_known_and_of_its_episode() -> None:
    made, rng = ring(40), np.random.default_rng(0)
    latents = latents_of(made)
    window = made.sample(16, 5, rng)
    latents.begin(window)
    assert window["is_first"][:, 0].all() and not window["start/memory"].any()
    remembered(latents, window)
    kept = set(window["number"].flatten().tolist())
    later = made.sample(300, 5, rng)
    latents.begin(later)
    known = 0
    for row in range(300):
        first = int(later["number"][row, 0])
        if first % 1000 % EPISODE == 0 or first - 1 not in kept or first % 1000 == 0:
            assert later["is_first"][row, 0]
            continue
        known += 1
        assert not later["is_first"][row, 0]
        assert later["start/stoch"][row].tolist() == [(first - 1) % 50, (first - 1) % 7]
        np.testing.assert_allclose(later["start/memory"][row], (first - 1) / 4096, rtol=1e-3)
    assert known > 50
    np.testing.assert_array_equal(later["is_first"][:, 1:], later["number"][:, 1:] % 1000 % EPISODE == 0)


def test_what_was_overwritten_since_is_forgotten() -> None:
    made, rng = ring(40, streams=1), np.random.default_rng(0)
    latents = latents_of(made)
    for _ in range(60):
        remembered(latents, made.sample(4, 5, rng))
    add(made, 20)
    window = made.sample(200, 3, rng)
    latents.begin(window)
    going_on = ~window["is_first"][:, 0]
    assert going_on.any()
    assert (window["number"][going_on, 0] - 1 < 40).all()  # of what was written since nothing was learned


def test_rings_keep_their_states_apart() -> None:
    rings, rng = (ring(40, streams=1), ring(40, streams=3, offset=10)), np.random.default_rng(1)
    latents, mixture = latents_of(*rings), Mixture(rings)
    for _ in range(60):
        remembered(latents, mixture.sample(8, 5, rng))
    window = mixture.sample(200, 3, rng)
    latents.begin(window)
    going_on = ~window["is_first"][:, 0]
    assert going_on.mean() > 0.5 and {0, 1} == set(window["at/ring"].tolist())
    np.testing.assert_allclose(
        window["start/memory"][going_on, 0], (window["number"][going_on, 0] - 1) / 4096, rtol=1e-3
    )


def test_a_mixture_with_one_usable_ring_says_which() -> None:
    short, long = ring(3, streams=1), ring(40, streams=1, offset=500)
    window = Mixture([short, long]).sample(8, 5, np.random.default_rng(0))
    assert (window["at/ring"] == 1).all() and (window["number"] >= 500).all()


@pytest.mark.parametrize("classes", [2, 256, 257, 1000])
def test_states_are_found_again_after_a_checkpoint(classes: int) -> None:
    made, rng = ring(40), np.random.default_rng(0)
    latents = Latents([made], stoch=1, classes=classes, memory=1)
    window = made.sample(16, 5, rng)
    latents.keep(window, np.full((16, 5, 1), classes - 1), np.full((16, 5, 1), -0.5))
    again = Latents([made], stoch=1, classes=classes, memory=1)
    saved = {name: array.copy() for name, array in latents.arrays().items()}
    assert all(len(array) <= 16 * 5 for array in saved.values())  # what is known, and no more
    again.keep(
        made.sample(16, 5, rng), np.zeros((16, 5, 1)), np.zeros((16, 5, 1))
    )  # forgotten by what follows
    again.load(saved)
    windows = [made.sample(64, 5, np.random.default_rng(3)) for _ in range(2)]
    latents.begin(windows[0])
    again.begin(windows[1])
    for name, array in windows[0].items():
        np.testing.assert_array_equal(array, windows[1][name])
    assert windows[0]["start/stoch"].max() == classes - 1
