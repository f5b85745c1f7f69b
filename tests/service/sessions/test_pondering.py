"""Planning ahead between acts: what it leads to, when it stops, and that nobody else waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.core import PlanningService
from tests.service.support import Caller, observe, over_http, running
from thick.runtimes.backends import open_runtime

BUDGET = {"method": "flat", "samples": 32, "iterations": 2, "elites": 4, "horizon": 4}


@pytest.fixture
async def own(small: Path) -> AsyncIterator[tuple[PlanningService, Caller]]:
    async with running(small) as service, over_http(service) as client:
        yield service, Caller(client)


async def settled(service: PlanningService, session_id: str) -> float:
    """Seconds that the session's planning ahead took, once it has used its budget."""
    session = await service.journal.find(session_id)
    async with asyncio.timeout(30):
        while service.engine.tasks:
            await asyncio.sleep(0.005)
    return 0.0 if session.pondering is None else session.pondering._spent  # type: ignore[attr-defined]


async def act(caller: Caller, session_id: str, seed: int, **more: Any) -> Any:
    body = {"observation": observe("arm", seed), "include": ["plan"], **more}
    return await caller.ask("POST", f"/v1/sessions/{session_id}/act", body)


async def created(caller: Caller, **planner: Any) -> str:
    body = {"model": "arm", "seed": 1, "planner": {**BUDGET, **planner}}
    made = await caller.ask("POST", "/v1/sessions", body, status=201)
    return str(made["session_id"])


async def test_a_session_plans_ahead_while_nobody_acts_and_says_for_how_long(
    own: tuple[PlanningService, Caller],
) -> None:
    service, caller = own
    session_id = await created(caller, ponder=True, ponder_ms=30)
    first = await act(caller, session_id, 0)
    assert "pondered_ms" not in first["plan"]["budget"]
    spent = await settled(service, session_id)
    assert spent >= 0.03
    second = await act(caller, session_id, 1)
    assert second["plan"]["budget"]["pondered_ms"] == pytest.approx(1e3 * spent, abs=0.001)
    view = await caller.ask("GET", f"/v1/sessions/{session_id}")
    assert (view["planner"]["ponder"], view["planner"]["ponder_ms"]) == (True, 30)


async def test_it_is_off_unless_asked_for_and_an_act_may_say_otherwise(
    own: tuple[PlanningService, Caller],
) -> None:
    service, caller = own
    session_id = await created(caller)
    await act(caller, session_id, 0)
    assert await settled(service, session_id) == 0.0
    assert "pondered_ms" not in (await act(caller, session_id, 1))["plan"]["budget"]
    await act(caller, session_id, 2, planner={"ponder": True, "ponder_ms": 10})
    assert await settled(service, session_id) >= 0.01
    await act(caller, session_id, 3, planner={"ponder": False})
    assert await settled(service, session_id) == 0.0


async def test_what_was_planned_ahead_is_dropped_where_something_else_happened(
    own: tuple[PlanningService, Caller],
) -> None:
    service, caller = own
    session_id = await created(caller, ponder=True, ponder_ms=10)
    await act(caller, session_id, 0)
    await settled(service, session_id)
    other = await act(caller, session_id, 1, executed_action=[0.5, 0.5])
    assert "pondered_ms" not in other["plan"]["budget"]
    await settled(service, session_id)
    first = await act(caller, session_id, 2, is_first=True)
    assert "pondered_ms" not in first["plan"]["budget"]
    await settled(service, session_id)
    await caller.ask("POST", f"/v1/sessions/{session_id}/reset")
    session = await service.journal.find(session_id)
    assert session.pondering is None
    assert "pondered_ms" not in (await act(caller, session_id, 0))["plan"]["budget"]


async def test_nobody_waits_for_it_and_no_place_is_lost(own: tuple[PlanningService, Caller]) -> None:
    service, caller = own
    hosted = service.repository.get("arm")
    before = hosted.slots.used
    thinking = await created(caller, ponder=True, ponder_ms=1e4)
    await act(caller, thinking, 0)
    assert service.engine.tasks
    plain, twin = await created(caller), await created(caller)
    busy = [(await act(caller, plain, step))["action"] for step in range(4)]
    await act(caller, thinking, 1)  # which ends what went on for it
    await caller.ask("DELETE", f"/v1/sessions/{thinking}", status=204)
    await settled(service, plain)
    quiet = [(await act(caller, twin, step))["action"] for step in range(4)]
    assert np.array_equal(np.asarray(busy), np.asarray(quiet))
    for session_id in (plain, twin):
        await caller.ask("DELETE", f"/v1/sessions/{session_id}", status=204)
    assert hosted.slots.used == before


async def test_a_step_that_is_asked_again_is_answered_as_before(own: tuple[PlanningService, Caller]) -> None:
    service, caller = own
    session_id = await created(caller, ponder=True, ponder_ms=10)
    await act(caller, session_id, 0)
    await settled(service, session_id)
    made = await act(caller, session_id, 1, step=1)
    await settled(service, session_id)
    again = await act(caller, session_id, 1, step=1)
    assert again["replayed"]
    assert again["plan"] == made["plan"]


def test_the_plan_ahead_is_the_plan_of_the_expected_step(small: Path) -> None:
    """What is found ahead is what a search from the expected belief finds; and the next search starts from it."""
    runtime = open_runtime(small / "arm" / "1", backend="native")
    agent = runtime.agent  # type: ignore[attr-defined]
    settings = runtime.settings(BUDGET)
    keys = np.array([7], np.int64)
    state = runtime.observe(runtime.initial(1), observe("arm")[None], is_first=np.array([True]), keys=keys)
    acted = agent.act(state, settings, keys=keys).state
    plan = runtime.ponder(acted, settings, keys=keys)
    while not plan.done:
        plan.step()
    ahead = plan.result().state
    assert np.array_equal(ahead.belief.deter, acted.belief.deter)  # the belief waits for the observation
    after = ahead.plan.older()
    assert int(after.taken[0]) == 0
    assert bool(after.planned[0])
    assert not np.array_equal(after.sequence, acted.plan.sequence)
    expected = agent.model.exact.imagine(acted.belief, acted.previous_action)
    follow = acted._replace(belief=expected, plan=acted.plan.older())
    from thick.planning.randomness import Randomness
    from thick.planning.search import ActionSearch

    search = ActionSearch(
        agent.model,
        agent.actions,
        settings,
        expected,
        follow.plan,
        randomness=Randomness(keys).fold("ponder"),
    )
    while not search.done:
        search.step()
    assert np.array_equal(search.result().memory.sequence, after.sequence)


async def test_no_session_may_have_the_worker_plan_ahead_for_ever(small: Path) -> None:
    async with running(small, max_ponder_ms=50) as service, over_http(service) as client:
        caller = Caller(client)
        for way, body in (
            ("/v1/sessions", {"model": "arm", "planner": {"ponder": True, "ponder_ms": 51}}),
            ("/v1/act", {"model": "arm", "observation": observe("arm", 0), "planner": {"ponder_ms": 51}}),
        ):
            problem = await caller.ask("POST", way, body, status=422)
            assert [each["path"] for each in problem["errors"]] == ["planner.ponder_ms"]
        assert await created(caller, ponder=True, ponder_ms=50)


async def test_a_belief_is_bound_as_what_creates_a_session(small: Path) -> None:
    async with running(small) as service, over_http(service) as client:
        caller = Caller(client)
        session_id = await created(caller, ponder=True, ponder_ms=60, samples=64)
        belief = (await caller.send("GET", f"/v1/sessions/{session_id}/belief")).content
    for bound, path in (({"max_ponder_ms": 50}, "ponder_ms"), ({"max_samples": 32}, "samples")):
        async with running(small, **bound) as service, over_http(service) as client:
            answer = await client.post(
                "/v1/sessions", content=belief, headers={"content-type": "application/octet-stream"}
            )
            assert answer.status_code == 422
            assert [each["path"] for each in answer.json()["errors"]] == [f"planner.{path}"]
