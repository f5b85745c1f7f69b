"""The same bits everywhere: outputs on fixed inputs, written down as hashes that hold on every machine.

Inputs are made by whole-number arithmetic and weights are those of the bundled checkpoints, so nothing but the kernels
has a part in the hashes. They may change with the arithmetic, and then all of them; never with a machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thick.models.beliefs import Belief
from thick.planning.actions import Actions
from thick.planning.low import LowProblem, low_search
from thick.planning.objectives import ReturnObjective
from thick.planning.protocols import JumpState, RolloutObjective
from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm
from thick.planning.settings import PlannerSettings
from thick.pytrees import walk
from thick.runtimes.native import library
from thick.runtimes.native.agents import load_agent
from thick.runtimes.native.model import NativeModel

CHECKPOINTS = Path(__file__).resolve().parents[3] / "checkpoints"
GOLDEN: dict[str, dict[str, str]] = {
    "doorkey6": {
        "encode": "0339726e2ae3597c",
        "observe": "f80db36985af2884",
        "imagine": "c5452cc220e6e539",
        "draw": "39ef78225d89aff6",
        "outcome": "858dbd640a959aba",
        "decode": "c92fefea43a40b00",
        "jump": "e9c40a38b7666efc",
        "expand": "60e88918f20f7422",
        "rollout": "2a409d21dcff11fc",
    },
    "cartpole": {
        "encode": "79ad27bd1c6736d5",
        "observe": "3117f0782a95d501",
        "imagine": "e0b6a9e918ba88b0",
        "draw": "762cc453f22a51ec",
        "outcome": "25090f9f1a5b0a37",
        "decode": "de8e8661ef1f4e71",
        "jump": "45cf087eef2a8450",
        "expand": "602c618e8795f92c",
        "rollout": "9610f36c358b588c",
    },
    "corridor": {
        "encode": "468bc01719fc1732",
        "observe": "747515b78962eab2",
        "imagine": "2ea5b77a0f515553",
        "draw": "e40203eba36c14b9",
        "outcome": "2a77bef3b861e81f",
        "decode": "d79f45419e919bb3",
        "jump": "a4c20d5c95a9cc9c",
        "expand": "4a32332ad7acf6f9",
        "rollout": "3f3b6e64ebe529ec",
        "policy": "bc1468ea132e97dc",
        "value": "78fe5dfe4650021f",
        "rollouts of the actor": "2655828008c128d2",
    },
}


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """float32 in [-1, 1), the same wherever whole numbers are whole."""
    index = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(1 + 1_000_003 * seed)
    mixed = (index * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return (mixed.astype(np.float32) * np.float32(2.0**-23) - np.float32(1)).reshape(shape)


def classes(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """int64 in [0, count)."""
    return ((numbers(*shape, seed=seed) + 1) * (count / 2)).astype(np.int64).clip(0, count - 1)


def seen(model: Any, space: Any, batch: int) -> Any:
    """Observations ``[B, ...]``."""
    spaces = getattr(space, "spaces", None)
    if spaces is not None:
        return {key: seen(model, each, batch) for key, each in spaces.items()}
    if space.dtype == np.uint8:
        return np.minimum(classes(256, batch, *space.shape), space.high).astype(np.uint8)
    return numbers(batch, *space.shape)


def outputs(model: NativeModel, space: Any) -> Iterator[tuple[str, Any]]:
    """Everything that a model computes, by name."""
    low, high, batch = model.exact, model.high, 5
    assert high is not None
    uniforms = (numbers(batch, low.stoch, seed=1) + 1) / 2
    if low.continuous:
        action = numbers(batch, low.action, seed=2)
    else:
        action = np.eye(low.action, dtype=np.float32)[classes(low.action, batch, seed=2)]
    embedding = model.encode(seen(model, space, batch))
    yield "encode", embedding
    first = np.arange(batch) % 2 == 0
    before = Belief.of(
        classes(low.classes, batch, low.stoch),
        numbers(batch, low.stoch, low.classes),
        numbers(batch, low.deter),
        numbers(batch, low.context),
        numbers(batch, low.context),
    )
    belief = model.observe(before, action, embedding, first)
    yield "observe", belief
    yield "imagine", low.imagine(belief, action)
    yield "draw", low.imagine(belief, action, uniforms)
    yield "outcome", low.outcome(belief)
    decoded = model.decode(belief)
    yield "decode", tuple(decoded.values()) if isinstance(decoded, dict) else decoded
    yield "jump", high.jump(belief.stoch, belief.context, classes(high.actions, batch, seed=3))
    state = JumpState(belief.stoch, belief.context, numbers(batch), numbers(batch))
    yield "expand", high.expand(state, critic=False)
    logits = belief.logits - belief.logits.max(-1, keepdims=True)
    goal = np.where(logits == 0, np.float32(1), np.float32(0))
    ones = np.ones(batch, np.float32)
    objective = RolloutObjective(
        0.99, False, goal, ones / 2, before.context, 2 * ones, first, 0.25, True, 1.0
    )
    if low.continuous:
        candidates = numbers(batch, 3, 4, low.action, seed=4)
    else:
        candidates = np.eye(low.action, dtype=np.float32)[classes(low.action, batch, 3, 4, seed=4)]
    parts = low.rollout(belief, candidates, objective, None)
    while True:
        try:
            next(parts)
        except StopIteration as end:
            yield "rollout", end.value
            break
    if low.has_actor:
        yield "policy", low.policy(belief)
        yield "value", low.value(belief)
        yield "rollouts of the actor", followed(low, belief)


def followed(low: Any, belief: Belief) -> tuple[np.ndarray, np.ndarray]:
    """What a search by rollouts of the actor finds."""
    settings = PlannerSettings().updated(
        {"low": "policy-rollouts", "samples": 40, "iterations": 2, "horizon": 3, "temperature": 1.0}
    )
    batch = belief.deter.shape[0]
    search = low_search(
        LowProblem(
            dynamics=low,
            objective=ReturnObjective(low, discount=0.99, critic=low.value),
            settings=settings,
            actions=Actions(low.action, None),
            belief=belief,
            subgoal=None,
            warm=Warm(np.zeros((batch, 3, low.action), np.float32), np.zeros(batch, np.bool_)),
            randomness=Randomness(np.arange(batch, dtype=np.int64)),
        )
    )
    while not search.done:
        search.step()
    return search.sequence(), search.expected_return()


@pytest.fixture(scope="module", params=list(GOLDEN))
def bundled(request: pytest.FixtureRequest) -> tuple[str, NativeModel, Any]:
    agent = load_agent(CHECKPOINTS / request.param / "1")
    return request.param, agent.model, agent.observation_space


@pytest.mark.parametrize("name", library.INSTRUCTIONS)
def test_the_bits_are_those_that_are_written_down(bundled: tuple[str, NativeModel, Any], name: str) -> None:
    if name not in library.available():
        pytest.skip(f"this machine has no {name}")
    checkpoint, model, space = bundled
    with library.using(name):
        found = {}
        for key, tree in outputs(model, space):
            digest = hashlib.sha256()
            for _, array in walk(tree if isinstance(tree, tuple) else (tree,)):
                digest.update(np.ascontiguousarray(array).tobytes())
            found[key] = digest.hexdigest()[:16]
    assert found == GOLDEN[checkpoint]


def test_the_rounding_of_the_calling_thread_changes_nothing_and_is_given_back() -> None:
    import ctypes

    libm = ctypes.CDLL(None)
    x = np.float32([1.1, 2.3, -0.7]) * np.float32(1.37)
    wanted = library.map_all(library.EXP, x)
    upward = 0x800  # FE_UPWARD on x86
    if libm.fesetround(upward):
        pytest.skip("no rounding modes as on x86")
    try:
        found = library.map_all(library.EXP, x)
        assert libm.fegetround() == upward
    finally:
        libm.fesetround(0)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("function", ["EXP", "TANH", "SIGMOID", "ELU"])
def test_functions_are_right_to_a_few_units_of_the_last_digit(function: str) -> None:
    x = np.linspace(-20, 20, 40_001).astype(np.float32)
    wide = x.astype(np.float64)
    wanted = {
        "EXP": np.exp(wide),
        "TANH": np.tanh(wide),
        "SIGMOID": 1 / (1 + np.exp(-wide)),
        "ELU": np.where(wide > 0, wide, np.expm1(wide)),
    }[function]
    found = library.map_all(getattr(library, function), x)
    np.testing.assert_allclose(
        found, wanted, rtol=3e-7 if function == "EXP" else 0, atol=3e-7 if function != "EXP" else 0
    )


def test_nan_and_infinity_come_out_as_such_and_harm_no_other_row() -> None:
    model = load_agent(CHECKPOINTS / "doorkey6" / "1").model
    low = model.exact
    belief = low.initial(4)._replace(stoch=classes(low.classes, 4, low.stoch), deter=numbers(4, low.deter))
    action = np.eye(low.action, dtype=np.float32)[[0, 1, 2, 3]]
    whole = low.imagine(belief, action)
    hurt = belief._replace(deter=belief.deter.copy())
    hurt.deter[1] = np.nan
    hurt.deter[2, 3] = np.inf
    found = low.imagine(hurt, action)
    assert np.isnan(found.deter[1]).all()
    assert ((found.stoch >= 0) & (found.stoch < low.classes)).all()
    for (_, x), (_, y) in zip(walk(found), walk(whole), strict=True):
        np.testing.assert_array_equal(x[[0, 3]], y[[0, 3]])
    assert low.imagine(low.initial(0), action[:0]).deter.shape == (0, low.deter)
