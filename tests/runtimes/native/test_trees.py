"""Trees that the kernels search, against the same searches in Python: every visit, value and state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtimes.native.test_identity import classes, numbers
from thick.planning.gumbel import GumbelSearch
from thick.planning.jumps import JumpModel
from thick.planning.mcts import MCTS
from thick.planning.randomness import Randomness
from thick.pytrees import leaves
from thick.runtimes.native import library
from thick.runtimes.native.agents import load_agent

CHECKPOINTS = Path(__file__).resolve().parents[3] / "checkpoints"


@pytest.fixture(scope="module", params=["doorkey6", "cartpole"])
def high(request: pytest.FixtureRequest) -> Any:
    found = load_agent(CHECKPOINTS / request.param / "1").model.high
    assert found is not None
    return found


def found(
    kind: type[MCTS], high: Any, batch: int, *, here: bool, seed: int, **options: Any
) -> list[np.ndarray]:
    """All answers of a search, in Python (``here``) or in the kernels."""
    stoch, context = (
        classes(high.classes, batch, high.stoch, seed=seed),
        numbers(batch, high.context, seed=seed),
    )
    if seed == 3:  # states of which nothing can be known
        context[0, 0], context[-1, -1] = np.nan, np.inf
    model = JumpModel(high, stoch, context)
    if here:
        model.forester = None
    randomness = Randomness(np.arange(batch) + seed)
    search = kind(model, randomness=randomness, **options)
    assert (search._forest is None) == here
    answers = [search.best(), search.path().nodes]
    while not search.done:
        search.step()
    path = search.path(search.best())
    answers += [search.root_visits, search.root_values, search.best(), search.path().actions, *path]
    return answers + leaves(search.states(path.nodes))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (MCTS, {"simulations": 40, "depth": 8}),
        (MCTS, {"simulations": 30, "depth": 2, "exploration": 0.25}),
        (MCTS, {"simulations": 1, "depth": 1}),
        (GumbelSearch, {"simulations": 40, "depth": 8}),
        (GumbelSearch, {"simulations": 25, "depth": 3, "scale": 0.7}),
    ],
)
def test_a_search_is_the_one_in_python(
    high: Any, kind: type[MCTS], options: dict[str, Any], batch: int, seed: int
) -> None:
    wanted = found(kind, high, batch, here=True, seed=seed, **options)
    for clear in (True, False):  # with all nodes to compute, and with all known
        if clear:
            high.known.clear()
        for x, y in zip(found(kind, high, batch, here=False, seed=seed, **options), wanted, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("kind", [MCTS, GumbelSearch])
@pytest.mark.parametrize("ahead", [2, 3, 8])
def test_looking_ahead_changes_nothing(
    high: Any, kind: type[MCTS], ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch, depth in ((1, 8), (1, 2), (3, 4)):
        options: dict[str, Any] = {"simulations": 60, "depth": depth}
        monkeypatch.setattr(high, "ahead", 1)
        high.known.clear()
        wanted = found(kind, high, batch, here=False, seed=1, **options)
        monkeypatch.setattr(high, "ahead", ahead)
        high.known.clear()
        for x, y in zip(found(kind, high, batch, here=False, seed=1, **options), wanted, strict=True):
            np.testing.assert_array_equal(x, y)


def test_every_instruction_set_and_number_of_threads_searches_alike(high: Any) -> None:
    options: dict[str, Any] = {"simulations": 20, "depth": 4}
    wanted = found(MCTS, high, 3, here=True, seed=2, **options)
    for name in library.available():
        for threads in (1, 2):
            library.use_threads(threads)
            try:
                with library.using(name):
                    high.known.clear()
                    answers = found(MCTS, high, 3, here=False, seed=2, **options)
            finally:
                library.use_threads(1)
            for x, y in zip(answers, wanted, strict=True):
                np.testing.assert_array_equal(x, y)


def test_what_is_forgotten_is_computed_again(high: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memo that is far too small, so that its nodes are replaced all the time."""
    options: dict[str, Any] = {"simulations": 60, "depth": 6}
    wanted = found(MCTS, high, 2, here=True, seed=0, **options)
    monkeypatch.setattr("thick.runtimes.native.trees.SETS", 1)
    memos = type(high._memos)(high)
    monkeypatch.setattr(high, "_memos", memos)
    for x, y in zip(found(MCTS, high, 2, here=False, seed=0, **options), wanted, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_slice_ends_in_time_and_makes_one_simulation_at_least(high: Any) -> None:
    high.known.clear()
    model = JumpModel(high, classes(high.classes, 1, high.stoch), numbers(1, high.context))
    search = MCTS(model, simulations=50, depth=8)
    assert search._forest is not None
    done = 0
    while done < 50:
        now = search._forest.simulate(done, 50, 0.0)
        assert now == done + 1
        done = now
    np.testing.assert_array_equal(search._forest["total"][0, 0], 50)
