"""A belief holds a list of contexts, of any length."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thick.models.beliefs import Belief, Context
from thick.pytrees import flatten, leaves, map_arrays, walk
from thick.runtimes.layout import Layout


def belief(contexts: int) -> Belief:
    """Random numbers of two sessions."""
    rng = np.random.default_rng(contexts)

    def numbers(size: int) -> np.ndarray:
        return rng.standard_normal((2, size)).astype(np.float32)

    levels = tuple(Context(numbers(3 + index), numbers(3 + index)) for index in range(contexts))
    return Belief(rng.integers(5, size=(2, 4)), rng.standard_normal((2, 4, 5)), numbers(6), levels)


@pytest.mark.parametrize("contexts", [0, 1, 2, 3])
def test_a_belief_with_so_many_contexts_is_packed_and_found_again(contexts: int) -> None:
    made = belief(contexts)
    names = [name for name, _ in walk(made)]
    assert names[3:] == [
        f"levels.{index}.{name}" for index in range(contexts) for name in ("context", "gates")
    ]
    layout = Layout((name, str(array.dtype), array.shape[1:]) for name, array in walk(made))
    _, build = flatten(made)
    again = build(layout.unpack(layout.pack(leaves(made))))
    assert len(again.levels) == contexts and isinstance(again, Belief)
    for one, other in zip(leaves(made), leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_the_context_of_the_dynamics_is_the_first(convert: object) -> None:
    made = map_arrays(convert, belief(2))  # type: ignore[arg-type]
    assert made.context is made.levels[0].context and made.gates is made.levels[0].gates
    moved = made.with_context(made.context + 1)
    assert bool((moved.context == made.context + 1).all()) and moved.levels[1] is made.levels[1]
    flat = map_arrays(convert, belief(0))  # type: ignore[arg-type]
    assert flat.context.shape == flat.gates.shape == (2, 0) and flat.with_context(flat.context) is flat


def test_a_context_without_numbers_is_none() -> None:
    one, none = belief(1), belief(0)
    parts = (one.stoch, one.logits, one.deter)
    assert Belief.of(*parts, one.context, one.gates).levels[0].context is one.context
    assert Belief.of(*parts, none.context, none.gates).levels == ()
