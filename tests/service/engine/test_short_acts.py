"""Acts that are short and alone are run by whoever hands them in; all others by the worker."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from service.engine import active, engine
from service.engine.jobs import ActJob, ActResult
from tests.service.fakes import FakePlan, Rig, Search


@pytest.fixture
def where(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the threads that ran slices, in order. Whatever was seen once counts as short."""
    seen: list[str] = []
    step = FakePlan.step

    def noted(plan: FakePlan) -> None:
        seen.append(threading.current_thread().name)
        step(plan)

    monkeypatch.setattr(FakePlan, "step", noted)
    monkeypatch.setattr(engine, "SHORT_S", 1e9)
    monkeypatch.setattr(active, "ACTIVE_S", 1e9)
    return seen


HERE, WORKER = threading.main_thread().name, "thick-engine"


def rig() -> Rig:
    made = Rig()
    made.runtime.info = replace(made.runtime.info, any_thread=True)
    return made


async def acted(rig: Rig, observation: float = 1.0, session: str = "one", **more: object) -> ActResult:
    await rig.until(lambda: not rig.engine._turns.locked())  # the worker may still be ending its turn
    result: ActResult = await rig.engine.submit(rig.job(observation, session=session, **more))  # type: ignore[arg-type]
    return result


async def test_what_is_short_and_alone_is_not_handed_over(where: list[str]) -> None:
    async with rig() as here:
        first = await acted(here, 3.0)  # nobody knows yet how long it takes
        again = await acted(here, 3.0)
        assert where == [WORKER, HERE]
        assert (again.action, again.state) == (first.action, first.state)
        assert again.timing["batch_size"] == 1
        assert here.model.slots.states([again.slot]) == np.float32(3.0)


async def test_a_runtime_that_has_its_own_thread_keeps_it(where: list[str]) -> None:
    async with Rig() as other:
        for _ in range(3):
            await acted(other)
        assert where == [WORKER] * 3


async def test_another_session_that_was_active_a_moment_ago_could_share_a_batch(where: list[str]) -> None:
    async with rig() as here:
        for session in ("one", "two", "one"):
            await acted(here, session=session)
        assert where == [WORKER] * 3


async def test_what_takes_longer_than_a_slice_is_handed_over(
    where: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig() as here:
        await acted(here)
        monkeypatch.setattr(engine, "SHORT_S", 0.0)
        await acted(here)
        assert where == [WORKER] * 2


async def test_a_deadline_that_might_pass_is_the_workers_business(where: list[str]) -> None:
    async with rig() as here:
        await acted(here)
        await acted(here, within_s=60.0)
        late = here.job(within_s=60.0, session="one")
        late.finish_by = 0.0
        await here.until(lambda: not here.engine._turns.locked())
        await here.engine.submit(late)
        # an answer without a slice, since the worker saw that there was no time
        assert where == [WORKER, HERE]


async def test_while_the_worker_is_busy_an_act_waits_for_it(where: list[str]) -> None:
    async with rig() as here:
        await acted(here)
        long = await here.block(here.job(settings=Search(slices=2), session="one"))
        short: asyncio.Future[ActResult] = here.engine.submit(here.job(session="one"))
        assert not short.done()
        here.runtime.gate.set()
        await asyncio.gather(long, short)
        assert set(where) == {WORKER}


async def test_a_failure_there_is_reported_as_everywhere(where: list[str]) -> None:
    async with rig() as here:
        await acted(here)
        here.runtime.broken = lambda state: True
        with pytest.raises(RuntimeError, match="broken"):
            await acted(here)
        here.runtime.broken = lambda state: False
        assert (await acted(here)).action == 1.0
        assert where[1:] == [HERE, HERE]


async def test_a_stopped_engine_takes_no_short_act_either(where: list[str]) -> None:
    async with rig() as here:
        await acted(here)
        await here.engine.stop()
        job: ActJob = here.job(session="one")
        with pytest.raises(Exception, match="shutting down"):
            here.engine.submit(job)
