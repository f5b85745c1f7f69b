"""Fused rollouts against the planner's own steps in the torch runtime."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.sizes import ACTIONS, SPACES, model
from tests.runtimes.test_parity import ODD, belief, both, clear, torched
from thick import pytrees
from thick.planning.objectives import ReturnObjective, Subgoal, SubgoalObjective
from thick.planning.protocols import JumpState, RolloutObjective, Score
from thick.planning.randomness import Randomness
from thick.planning.sampling import rollout
from thick.pytrees import map_arrays
from thick.runtimes.native import library, nodes, rollouts
from thick.runtimes.native.high import Known
from thick.runtimes.native.model import NativeModel
from thick.runtimes.torch.model import FrozenModel

B, N, H = 2, 30, 6


def finished(parts: Generator[Any, None, Score]) -> tuple[Score, list[Any]]:
    pauses = []
    while True:
        try:
            pauses.append(next(parts))
        except StopIteration as end:
            return end.value, pauses


class Numpy:
    """Randomness whose keys are numpy's, as who plans in numpy has it."""

    def __init__(self, inner: Randomness) -> None:
        self.inner, self.keys, self.row = inner, inner.keys.numpy(), inner.row

    def folds(self, count: int) -> np.ndarray:
        return self.inner.folds(count).numpy()


def objectives(
    reference: FrozenModel,
    native: NativeModel,
    now: Any,
    *,
    goal: bool,
    arrival: bool,
    critic: bool,
    ending: float = 0.0,
) -> tuple[Any, RolloutObjective]:
    returns = ReturnObjective(
        reference.exact, discount=0.97, critic=reference.exact.value if critic else None
    )
    plain = RolloutObjective(0.97, critic, None, None, None, None, None, 0.0, arrival, 0.0)
    if not goal:
        return returns, plain
    low, rng = native.exact, np.random.default_rng(5)
    # Not far from what the model imagines, so that candidates do arrive.
    ahead = low.imagine(
        low.imagine(now, np.eye(low.action, dtype=np.float32)[[0] * B]),
        np.eye(low.action, dtype=np.float32)[[1] * B],
    )
    subgoal = Subgoal(
        *(
            torch.from_numpy(x)
            for x in (
                ahead.logits + 0.1 * rng.standard_normal(ahead.logits.shape).astype(np.float32),
                np.zeros((B, low.action), np.float32),
                ahead.context,
                np.array([0.9, 0.2], np.float32),
            )
        )
    )
    steered = SubgoalObjective(
        returns,
        subgoal=subgoal,
        context=torch.from_numpy(now.context),
        kappa=0.3,
        arrival=arrival,
        bonus=0.7,
        threshold=0.2,
        ending=ending,
    )
    return steered, plain._replace(
        goal=steered.goal[:, 0].numpy(),
        threshold=steered.threshold[:, 0].numpy(),
        context=steered.context[:, 0].numpy(),
        distance=steered.distance[:, 0].numpy(),
        ends=steered.ends[:, 0].numpy(),
        kappa=0.3,
        bonus=0.7 if arrival else 0.0,
        ending=ending,
    )


@pytest.fixture(scope="module", params=["thick-discrete", "thick-continuous", "rssm-discrete"])
def models(request: pytest.FixtureRequest) -> tuple[Any, FrozenModel, NativeModel]:
    kind, action = request.param.split("-")
    world = clear(model(SPACES["vector"], ACTIONS[action], kind=kind, actor_critic=True, **ODD))
    return (world, *both(world, "native"))


def candidates(low: Any, seed: int = 0, count: int = N) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if low.continuous:
        return rng.uniform(-1, 1, (B, count, H, low.action)).astype(np.float32)
    return np.eye(low.action, dtype=np.float32)[rng.integers(low.action, size=(B, count, H))]


@pytest.mark.parametrize("drawn", [False, True], ids=["modes", "drawn"])
@pytest.mark.parametrize("critic", [False, True], ids=["", "critic"])
@pytest.mark.parametrize("goal", ["none", "similarity", "arrival", "similarity-ending", "arrival-ending"])
def test_scores_are_those_of_step_by_step_planning(models: Any, goal: str, critic: bool, drawn: bool) -> None:
    world, reference, native = models
    if goal != "none" and native.high is None:
        pytest.skip("no context, no subgoal")
    now, tried = belief(world, B), candidates(native.exact)
    noise = Randomness(torch.tensor([3, 2**40])).rows(7) if drawn else None
    torches, numbers = objectives(
        reference, native, now, goal=goal != "none", arrival=goal.startswith("arrival"), critic=critic,
        ending=1e-3 if goal.endswith("ending") else 0.0,
    )  # fmt: skip
    with torch.no_grad():
        wanted = rollout(reference.exact, torches, torched(now), torch.from_numpy(tried), noise)
    found, _ = finished(native.exact.rollout(now, tried, numbers, None if noise is None else Numpy(noise)))
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_a_score_depends_neither_on_batch_mates_nor_on_pauses_nor_on_what_was_asked_before(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, reference, native = models
    low, now = native.exact, belief(world, B)
    goal = native.high is not None
    _, numbers = objectives(reference, native, now, goal=goal, arrival=True, critic=True)
    tried = candidates(low)
    whole, _ = finished(low.rollout(now, tried, numbers, None))
    finished(low.rollout(now, candidates(low, 1), numbers, None))
    again, _ = finished(low.rollout(now, tried, numbers, None))
    monkeypatch.setattr(rollouts, "PAUSE", 0.0)
    fresh = map_arrays(np.copy, now)  # nothing is remembered of it
    paused, pauses = finished(low.rollout(fresh, tried[:, ::-1], numbers, None))
    assert len(pauses) > H
    one = map_arrays(lambda x: x[1:], now)
    alone = numbers._replace(
        **{
            name: getattr(numbers, name)[1:]
            for name in ("goal", "threshold", "context", "distance", "ends")
            if goal
        }
    )
    single, _ = finished(low.rollout(one, tried[1:, 4:5], alone, None))
    for first, second, third, fourth in zip(whole, again, paused, single, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third[:, ::-1])
        np.testing.assert_array_equal(first[1:, 4:5], fourth)


def test_a_first_step_that_candidates_share_is_the_one_that_each_would_make(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, reference, native = models
    low, now = native.exact, belief(world, B)
    if low.continuous:
        pytest.skip("no two candidates begin with the same action")
    _, numbers = objectives(reference, native, now, goal=native.high is not None, arrival=True, critic=True)
    noise, tried = Numpy(Randomness(torch.tensor([3, 4]))), candidates(low, count=4 * low.action)
    made: list[int] = []
    step = low.step
    monkeypatch.setattr(low, "step", lambda z, *rest: made.append(z[..., 0].size) or step(z, *rest))
    shared, _ = finished(low.rollout(now, tried, numbers, noise))
    again, _ = finished(low.rollout(now, tried, numbers, noise))
    assert made == [B * low.action]  # for all iterations of a search
    monkeypatch.setattr(nodes, "FEW_ACTIONS", 10**9)
    alone, _ = finished(low.rollout(map_arrays(np.copy, now), tried, numbers, noise))
    assert made == [B * low.action]
    for first, second, third in zip(shared, again, alone, strict=True):
        np.testing.assert_array_equal(first, third)
        np.testing.assert_array_equal(second, third)


def test_what_is_kept_of_a_search_is_for_the_same_belief_and_objective_alone(models: Any) -> None:
    world, reference, native = models
    low, now = native.exact, belief(world, B)
    noise = Numpy(Randomness(torch.tensor([3, 4])))
    _, numbers = objectives(reference, native, now, goal=native.high is not None, arrival=True, critic=True)
    other = numbers._replace(discount=0.5, bonus=3.0, arrival=False, kappa=2.0)
    moved = map_arrays(lambda x: x[::-1].copy(), now)
    few, many = candidates(low, count=5), candidates(low, count=9)

    def score(of: Any, tried: np.ndarray, objective: RolloutObjective) -> np.ndarray:
        return finished(low.rollout(of, tried, objective, noise))[0].score

    asked = [(b, t, o) for b in (now, moved) for t in (few, many) for o in (numbers, other)]
    for of, tried, objective in asked * 2:
        fresh = score(map_arrays(np.copy, of), tried, objective)
        np.testing.assert_array_equal(score(of, tried, objective), fresh)


def test_a_pause_reports_the_scores_of_the_steps_that_are_complete(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _, native = models
    monkeypatch.setattr(rollouts, "PAUSE", 0.0)
    numbers = RolloutObjective(0.97, False, None, None, None, None, None, 0.0, False, 0.0)
    now, tried = belief(world, B), candidates(native.exact)
    _, pauses = finished(native.exact.rollout(now, tried, numbers, None))
    last = pauses[-1]
    parts = native.exact.rollout(now, tried[:, :, : last.length], numbers, None)
    wanted, _ = finished(parts)
    assert last.length == H - 1
    np.testing.assert_array_equal(last.score().score, wanted.score)


@pytest.mark.parametrize("drawn", [False, True], ids=["modes", "drawn"])
def test_a_pause_within_a_step_reports_the_one_before(
    models: Any, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _, native = models
    monkeypatch.setattr(rollouts, "PAUSE", 0.0)
    monkeypatch.setattr(rollouts.Pace, "rows", lambda self, step, here, left: min(left, step + 7))
    numbers = RolloutObjective(0.97, False, None, None, None, None, None, 0.0, False, 0.0)
    now, tried = belief(world, B), candidates(native.exact)
    noise = Numpy(Randomness(torch.tensor([3, 4]))) if drawn else None
    lengths = []
    for pause in native.exact.rollout(now, tried, numbers, noise):
        lengths.append(pause.length)
        if pause.length:
            found = pause.score()
            fresh = map_arrays(np.copy, now)
            wanted, _ = finished(native.exact.rollout(fresh, tried[:, :, : pause.length], numbers, noise))
            np.testing.assert_array_equal(found.score, wanted.score)
    assert lengths == sorted(set(lengths)) and len(lengths) > 2


@pytest.mark.parametrize("name", ["scalar", "avx2"])
def test_scores_are_the_same_bits_with_every_instruction_set(models: Any, name: str) -> None:
    if name not in library.available():
        pytest.skip(f"this machine has no {name}")
    world, reference, native = models
    now, tried = belief(world, B), candidates(native.exact, count=5)
    goal = native.high is not None
    noise = Numpy(Randomness(torch.tensor([3, 4])))
    for drawn in (None, noise):
        _, numbers = objectives(reference, native, now, goal=goal, arrival=True, critic=True)
        best, _ = finished(native.exact.rollout(now, tried, numbers, drawn))
        fresh = map_arrays(np.copy, now)  # nothing is remembered of it
        with library.using(name):
            found, _ = finished(native.exact.rollout(fresh, tried, numbers, drawn))
        for x, y in zip(found, best, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("drawn", [False, True], ids=["modes", "drawn"])
def test_scores_are_the_same_bits_with_any_number_of_threads(models: Any, drawn: bool) -> None:
    world, reference, native = models
    now, tried = belief(world, B), candidates(native.exact, count=45)
    goal = native.high is not None
    _, numbers = objectives(reference, native, now, goal=goal, arrival=True, critic=True)
    noise = Numpy(Randomness(torch.tensor([3, 4]))) if drawn else None
    one, _ = finished(native.exact.rollout(now, tried, numbers, noise))
    library.use_threads(3)
    try:  # a step begins when the one before is complete, whoever computed it
        for _ in range(3):
            fresh = map_arrays(np.copy, now)
            found, _ = finished(native.exact.rollout(fresh, tried, numbers, noise))
            for x, y in zip(found, one, strict=True):
                np.testing.assert_array_equal(x, y)
    finally:
        library.use_threads(1)


def test_a_node_of_the_high_level_is_remembered_by_its_state_alone(models: Any) -> None:
    world, _, native = models
    high = native.high
    if high is None:
        pytest.skip("no high level")
    now = belief(world, 3)
    state = JumpState(now.stoch, now.context, np.float32([0.1, 0.1, 0.2]), np.zeros(3, np.float32))
    high.known.clear()
    whole = high.expand(state, critic=True)
    one = pytrees.map_arrays(lambda x: x[1:2], state)
    for remembered in (True, False):
        found = high.expand(one, critic=True)
        for x, y in zip(pytrees.leaves(found), pytrees.leaves(whole), strict=True):
            np.testing.assert_array_equal(x, y[1:2])
        if remembered:
            high.known.clear()
    richer = one._replace(reward=one.reward + 1)  # the same state, reached with another reward
    assert (high.expand(richer, critic=True).reward < found.reward).all()
    moved = one._replace(context=one.context + 1)
    assert (high.expand(moved, critic=True).reward != found.reward).any()


def test_the_nodes_that_are_remembered_are_bounded() -> None:
    known = Known()
    known.MOST = 3  # type: ignore[misc]
    for key in range(5):
        known.keep({key: key})  # type: ignore[dict-item]
    assert [known.get(key) for key in range(5)] == [None, None, 2, 3, 4]
