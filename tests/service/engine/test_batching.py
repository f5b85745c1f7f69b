"""On real models: what a session gets does not depend on who else was in the batch, and deadlines are kept."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.core import Clock, PlanningService
from service.engine.batches import SharedPlan
from tests.service.support import Caller, observe, over_http, running, same

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def hold(service: PlanningService) -> asyncio.Event:
    """Keep the worker busy until the event is set."""
    release, loop = asyncio.Event(), asyncio.get_running_loop()
    service.engine.call(lambda: asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10))
    await asyncio.sleep(0.01)
    return release


@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("arm", "hierarchical"),
        ("arm", "flat"),
        ("arm", "policy"),
        ("grid", "hierarchical"),
        ("grid", "policy"),
        ("camera", "flat"),
    ],
)
async def test_batch_mates_do_not_matter(service: PlanningService, model: str, method: str) -> None:
    body = {"model": model, "planner": {"method": method}}

    async def act(session_id: str, n: int) -> dict[str, object]:
        include = ["plan", "timing"]
        return await service.act(session_id, {"observation": observe(model, n), "include": include}, Clock())

    async def make(seed: int) -> str:
        return str((await service.lifecycle.create({**body, "seed": seed}))["session_id"])

    lonely = [await make(seed) for seed in range(5)]
    social = [await make(seed) for seed in range(5)]
    for step in range(2):
        alone = [await act(each, 10 * step + n) for n, each in enumerate(lonely)]
        release = await hold(service)
        together = [asyncio.create_task(act(each, 10 * step + n)) for n, each in enumerate(social)]
        await asyncio.sleep(0.02)
        release.set()
        for one, task in zip(alone, together, strict=True):
            other = await task
            assert other["timing"]["batch_size"] == 5 and one["timing"]["batch_size"] == 1  # type: ignore[index]
            assert same(one["action"], other["action"])
            assert one["plan"]["low"]["actions"] is not None  # type: ignore[index]
            first, second = one["plan"]["low"], other["plan"]["low"]  # type: ignore[index]
            assert np.allclose(first["expected_return"], second["expected_return"], atol=1e-5)


async def test_sessions_of_different_settings_share_an_observation_batch(service: PlanningService) -> None:
    views = [await service.lifecycle.create({"model": "arm", "seed": n}) for n in range(4)]
    release = await hold(service)
    tasks = [
        asyncio.create_task(
            service.act(
                view["session_id"], {"observation": observe("arm"), "planner": {"method": method}}, Clock()
            )
        )
        for view, method in zip(views, ["flat", "policy", "flat", "hierarchical"], strict=True)
    ]
    await asyncio.sleep(0.02)
    release.set()
    answers = await asyncio.gather(*tasks)
    assert [answer["plan"]["method"] for answer in answers] == ["flat", "policy", "flat", "hierarchical"]
    assert all(answer["timing"]["batch_size"] == 4 for answer in answers)


async def test_no_slice_begins_after_the_deadline_at_a_budget_many_times_larger(
    service: PlanningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, step = [], SharedPlan.step

    def watched(plan: SharedPlan, threads: int | None) -> float | None:
        late.append(any(job.deadline and time.monotonic() > job.deadline for job in plan._open.values()))
        return step(plan, threads)

    monkeypatch.setattr(SharedPlan, "step", watched)
    big = {"samples": 2000, "iterations": 1000, "horizon": 20, "method": "flat"}
    view = await service.lifecycle.create({"model": "arm", "planner": big})
    for n in range(5):
        body = {"observation": observe("arm", n), "planner": {"deadline_ms": 150}}
        answer = await service.act(view["session_id"], body, Clock())
        budget = answer["plan"]["budget"]
        assert budget["deadline_ms"] == 150 and budget["iterations_done"] < budget["iterations_asked"] == 1000
    assert late.count(True) <= 1, "at most one that the machine held up between the look and the slice"


async def test_short_acts_are_answered_while_a_plan_runs_that_would_take_very_long(
    service: PlanningService,
) -> None:
    big = {"samples": 400, "iterations": 1000, "horizon": 50, "method": "flat"}
    made = [await service.lifecycle.create({"model": "arm", "planner": each}) for each in (big, {})]
    slow, quick = (view["session_id"] for view in made)
    long = asyncio.create_task(service.act(slow, {"observation": observe("arm")}, Clock()))
    while not service.engine.tasks:
        await asyncio.sleep(0.001)
    for n in range(5):
        body = {"observation": observe("arm", n), "planner": {"method": "policy"}}
        await service.act(quick, body, Clock())
    assert not long.done()
    long.cancel()
    await asyncio.gather(long, return_exceptions=True)


async def test_a_deadline_that_cannot_be_met_is_504_and_changes_nothing(service: PlanningService) -> None:
    async with over_http(service) as client:
        caller = Caller(client)
        session = await caller.session("arm")
        release = await hold(service)
        late = asyncio.create_task(
            caller.act(session, observe("arm"), status=504, step=0, planner={"deadline_ms": 30})
        )
        await asyncio.sleep(0.06)
        release.set()
        assert (await late)["code"] == "deadline_exceeded"
        assert (await caller.act(session, observe("arm"), step=0))["replayed"] is False


async def test_where_the_operator_allows_it_a_late_act_goes_on_with_the_last_plan(small: Path) -> None:
    async with running(small, degrade=True) as service, over_http(service) as client:
        caller = Caller(client)
        session = await caller.session("arm", planner={"method": "flat"})
        first = await caller.act(session, observe("arm"))
        assert "degraded" not in first
        release = await hold(service)
        late = asyncio.create_task(caller.act(session, observe("arm", 1), planner={"deadline_ms": 30}))
        await asyncio.sleep(0.06)
        release.set()
        answer = await late
        assert answer["degraded"] and answer["plan"]["budget"]["iterations_done"] == 0
        assert np.allclose(answer["action"], first["plan"]["low"]["actions"][1], atol=1e-6)


async def test_a_full_queue_is_429_with_retry_after(small: Path) -> None:
    async with running(small, queue_limit=2) as service, over_http(service) as client:
        caller = Caller(client)
        sessions = [await caller.session("arm") for _ in range(5)]
        release = await hold(service)
        tasks = [
            asyncio.create_task(
                caller.send("POST", f"/v1/sessions/{each}/act", {"observation": observe("arm")})
            )
            for each in sessions
        ]
        await asyncio.sleep(0.1)
        release.set()
        responses = await asyncio.gather(*tasks)
        refused = [response for response in responses if response.status_code == 429]
        assert len(refused) == 3 and all("retry-after" in response.headers for response in refused)
        for session, response in zip(sessions, responses, strict=True):
            view = await caller.ask("GET", f"/v1/sessions/{session}")
            assert view["step"] == (1 if response.status_code == 200 else 0)


async def test_the_event_loop_answers_others_while_plans_run(
    service: PlanningService, client: httpx.AsyncClient
) -> None:
    big = {"samples": 500, "iterations": 1000, "horizon": 50, "method": "flat"}
    view = await service.lifecycle.create({"model": "arm", "planner": big})
    plan = asyncio.create_task(service.act(view["session_id"], {"observation": observe("arm")}, Clock()))
    while not service.engine.tasks:
        await asyncio.sleep(0.001)
    for _ in range(20):
        assert (await client.get("/health/live")).status_code == 200
    assert not plan.done()
    plan.cancel()
    await asyncio.gather(plan, return_exceptions=True)
