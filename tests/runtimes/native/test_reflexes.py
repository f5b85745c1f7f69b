"""Acts by the actor in one call: the same row, bit by bit, as observing and planning them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.models.sizes import ACTIONS, SPACES, model
from tests.runtimes.acting import CHECKPOINTS, observed
from thick.runtimes.native.agents import native_agent
from thick.runtimes.native.runtime import NativeRuntime, open_runtime


def runtime(observation: str, action: str, **changes: Any) -> NativeRuntime:
    world = model(SPACES[observation], ACTIONS[action], 0, behaviour="actor_critic", **changes)
    return NativeRuntime(native_agent(world, planner={"method": "policy"}))


def planned(
    of: NativeRuntime, row: np.ndarray, seen: Any, *, is_first: bool, executed: Any
) -> tuple[Any, bytes]:
    """Action and next row of an act as the engine observes and plans it."""
    batch = {key: x[None] for key, x in seen.items()} if isinstance(seen, dict) else seen[None]
    given = None if executed is None else of.encode_action([executed])
    state = of.observe(
        of.unpack(row[None]), batch, is_first=np.array([is_first]), executed_action=given, keys=np.array([1])
    )
    plan = of.plan(state, of.planner, keys=np.array([1]))
    while not plan.done:
        plan.step()
    found = plan.result()
    return of.decode_action(found.action)[0], of.pack(found.state).tobytes()


@pytest.mark.parametrize("observation", sorted(SPACES))
@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_it_is_the_act_that_is_observed_and_planned(observation: str, action: str) -> None:
    for changes in ({}, {"dynamics": "rssm", "levels": ()}):
        follow(runtime(observation, action, **changes))


def follow(of: NativeRuntime) -> None:
    row = of.pack(of.initial(1))[0]
    for step in range(4):
        batch = observed(of.agent, step, 1)
        seen = {key: x[0] for key, x in batch.items()} if isinstance(batch, dict) else batch[0]
        of.agent.action_space.seed(step)
        executed = of.agent.action_space.sample() if step == 2 else None
        asked: dict[str, Any] = {"is_first": step in (0, 3)}
        before = row.copy()
        found = of.react(row, seen, executed_action=executed, settings=of.planner, **asked)
        assert found is not None
        action, wanted = planned(of, row, seen, executed=executed, **asked)
        np.testing.assert_array_equal(of.decode_action(found.action)[0], action)
        assert found.row.tobytes() == wanted
        np.testing.assert_array_equal(row, before)
        row = found.row


def test_what_asks_for_more_is_planned() -> None:
    searched = open_runtime(CHECKPOINTS / "doorkey6" / "1")
    row = searched.pack(searched.initial(1))[0]
    seen = observed(searched.agent, 0, 1)
    asked: dict[str, Any] = {"is_first": True, "executed_action": None}
    assert searched.react(row, seen, settings=searched.planner, **asked) is None
    drawn = runtime("vector", "discrete")
    warm = drawn.settings({"temperature": 1.0})
    assert drawn.react(row, seen, settings=warm, **asked) is None


def test_a_row_of_classes_that_there_are_not_is_refused() -> None:
    of = runtime("vector", "discrete")
    state = of.initial(1)
    state.belief.stoch[:] = 1_000_000
    seen = observed(of.agent, 0, 1)[0]
    with pytest.raises(ValueError, match="expected classes"):
        of.react(of.pack(state)[0], seen, is_first=False, executed_action=None, settings=of.planner)
