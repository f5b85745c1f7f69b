"""The engine schedules: batches, deadlines, fairness, cancellation, and trouble that stays where it is."""

from __future__ import annotations

import asyncio
import time

import pytest

from service.jobs import DeadlinePassed, EngineStopped, ImagineJob, QueueFull
from service.tasks import END
from tests.service.fakes import Rig, Search


async def test_acts_that_wait_are_planned_in_one_batch() -> None:
    async with Rig() as rig:
        rig.agent.gate.clear()
        first = rig.engine.submit(rig.job(1.0))
        await asyncio.sleep(0.05)
        others = [rig.engine.submit(rig.job(float(n))) for n in range(2, 7)]
        rig.agent.gate.set()
        results = await asyncio.gather(first, *others)
        assert [size for _, size in rig.agent.log] == [1, 5]
        assert [result.action for result in results] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        assert [result.timing["batch_size"] for result in results] == [1, 5, 5, 5, 5, 5]


async def test_a_batch_is_never_larger_than_the_limit() -> None:
    async with Rig(max_batch=3) as rig:
        rig.agent.gate.clear()
        jobs = [rig.engine.submit(rig.job()) for _ in range(10)]
        await asyncio.sleep(0.02)
        rig.agent.gate.set()
        await asyncio.gather(*jobs)
        assert max(size for _, size in rig.agent.log) <= 3


async def test_only_equal_settings_plan_together() -> None:
    async with Rig() as rig:
        rig.agent.gate.clear()
        blocker = rig.engine.submit(rig.job())
        await asyncio.sleep(0.02)
        few, many = Search(slices=1), Search(slices=2)
        jobs = [rig.engine.submit(rig.job(settings=each)) for each in (few, many, few, many, many)]
        rig.agent.gate.set()
        await asyncio.gather(blocker, *jobs)
        assert sorted(rig.agent.log[1:], key=str) == sorted([(few, 2), (many, 3), (many, 3)], key=str)


async def test_a_state_lands_in_a_fresh_slot_and_the_old_one_stays_as_it_was() -> None:
    async with Rig() as rig:
        slots = rig.model.slots
        result = await rig.engine.submit(rig.job(3.0))
        again = await rig.engine.submit(rig.job(4.0, slot=result.slot))
        assert again.action == 7.0
        layout = slots.layout
        assert layout.unpack(slots.gather([result.slot])).total.item() == 3.0
        assert layout.unpack(slots.gather([rig.model.initial_slot])).total.item() == 0.0
        assert layout.split(again.state)["total"].item() == 7.0


async def test_a_search_stops_in_time_and_says_how_far_it_came() -> None:
    async with Rig() as rig:
        search = Search(slices=1000, slice_s=0.01)
        await rig.engine.submit(
            rig.job(settings=search, within_s=0.1, want_plan=True)
        )  # learns what a slice costs
        began = time.monotonic()
        result = await rig.engine.submit(rig.job(settings=search, within_s=0.15, want_plan=True))
        took = time.monotonic() - began
        assert took < 0.2
        assert result.plan is not None
        assert 3 <= result.plan["budget"]["iterations_done"] < 16


async def test_a_deadline_is_kept_while_a_long_plan_runs() -> None:
    async with Rig() as rig:
        long = rig.engine.submit(rig.job(settings=Search(slices=100, slice_s=0.005)))
        await asyncio.sleep(0.02)
        began = time.monotonic()
        await rig.engine.submit(rig.job(settings=Search(slices=5, slice_s=0.005), within_s=0.1))
        assert time.monotonic() - began < 0.12
        assert not long.done()
        assert (await long).action == 1.0


async def test_cheap_acts_overtake_an_expensive_one_which_still_ends() -> None:
    async with Rig() as rig:
        cheap = Search(slices=1, slice_s=0.001)
        await rig.engine.submit(rig.job(settings=cheap))
        long = rig.engine.submit(rig.job(settings=Search(slices=60, slice_s=0.005)))
        await asyncio.sleep(0.05)
        for _ in range(5):
            began = time.monotonic()
            await rig.engine.submit(rig.job(settings=cheap))
            assert time.monotonic() - began < 0.1
        assert not long.done()
        await asyncio.wait_for(long, 5)


async def test_each_session_of_a_batch_is_answered_at_its_own_deadline() -> None:
    async with Rig() as rig:
        search = Search(slices=40, slice_s=0.01)
        await rig.engine.submit(rig.job(settings=search, within_s=0.05))
        rig.agent.gate.clear()
        blocker = rig.engine.submit(rig.job())
        await asyncio.sleep(0.02)
        began = time.monotonic()
        soon = rig.engine.submit(rig.job(settings=search, within_s=0.1, want_plan=True))
        later = rig.engine.submit(rig.job(settings=search, within_s=0.3, want_plan=True))
        rig.agent.gate.set()
        await blocker
        first = await soon
        assert time.monotonic() - began < 0.15
        assert not later.done()
        second = await later
        assert time.monotonic() - began < 0.35
        assert first.timing["batch_size"] == second.timing["batch_size"] == 2
        assert first.plan and second.plan
        assert first.plan["budget"]["iterations_done"] < second.plan["budget"]["iterations_done"]


async def test_those_with_a_deadline_plan_apart_from_those_without() -> None:
    async with Rig() as rig:
        rig.agent.gate.clear()
        blocker = rig.engine.submit(rig.job())
        await asyncio.sleep(0.02)
        jobs = [rig.engine.submit(rig.job(within_s=limit)) for limit in (None, 5.0, None, 5.0)]
        rig.agent.gate.set()
        await asyncio.gather(blocker, *jobs)
        assert [size for _, size in rig.agent.log] == [1, 2, 2]


async def test_a_deadline_that_passes_in_the_queue_is_told_without_planning() -> None:
    async with Rig() as rig:
        rig.agent.gate.clear()
        blocker = rig.engine.submit(rig.job())
        await asyncio.sleep(0.02)
        late = rig.engine.submit(rig.job(within_s=0.02))
        await asyncio.sleep(0.05)
        rig.agent.gate.set()
        with pytest.raises(DeadlinePassed):
            await late
        await blocker
        assert len(rig.agent.log) == 1


async def test_where_it_is_allowed_a_late_act_is_answered_without_a_search_and_says_so() -> None:
    async with Rig() as rig:
        rig.agent.gate.clear()
        blocker = rig.engine.submit(rig.job())
        await asyncio.sleep(0.02)
        late = rig.engine.submit(rig.job(2.0, within_s=0.02, degradable=True))
        await asyncio.sleep(0.05)
        rig.agent.gate.set()
        result = await late
        await blocker
        assert result.degraded and result.action == 2.0
        assert len(rig.agent.log) == 1


async def test_a_full_queue_refuses_at_once() -> None:
    async with Rig(queue_limit=2) as rig:
        rig.agent.gate.clear()
        running = rig.engine.submit(rig.job())
        await asyncio.sleep(0.02)
        waiting = [rig.engine.submit(rig.job()) for _ in range(2)]
        with pytest.raises(QueueFull):
            rig.engine.submit(rig.job())
        rig.agent.gate.set()
        await asyncio.gather(running, *waiting)
        await rig.engine.submit(rig.job())


async def test_a_cancelled_act_leaves_the_queue_and_its_slot_is_free_again() -> None:
    async with Rig() as rig:
        rig.agent.gate.clear()
        running = rig.engine.submit(rig.job())
        await asyncio.sleep(0.02)
        waiting = rig.engine.submit(rig.job())
        waiting.cancel()
        running.cancel()  # while it plans: the result is dropped
        rig.agent.gate.set()
        await rig.engine.call(lambda: None)
        await asyncio.sleep(0.01)
        assert rig.engine.depth == 0
        assert len(rig.agent.log) == 1
        assert rig.model.slots.used == 1


async def test_one_broken_session_does_not_fail_its_batch_mates() -> None:
    async with Rig() as rig:

        def observe(state: object, observation: object, **_: object) -> object:
            if (observation == 13.0).any():  # type: ignore[attr-defined]
                raise RuntimeError("cannot be observed")
            return type(state)(state.total + observation)  # type: ignore[attr-defined, call-arg]

        rig.agent.observe = observe  # type: ignore[method-assign, assignment]
        rig.agent.gate.clear()
        blocker = rig.engine.submit(rig.job())
        await asyncio.sleep(0.02)
        jobs = [rig.engine.submit(rig.job(value)) for value in (1.0, 13.0, 2.0)]
        rig.agent.gate.set()
        await blocker
        good, bad, fine = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(bad, RuntimeError)
        assert (good.action, fine.action) == (1.0, 2.0)  # type: ignore[union-attr]


async def test_a_plan_that_fails_is_told_and_the_worker_goes_on() -> None:
    async with Rig() as rig:
        rig.agent.broken = lambda state: bool((state.total == 13.0).any())
        with pytest.raises(RuntimeError, match="broken"):
            await rig.engine.submit(rig.job(13.0))
        assert (await rig.engine.submit(rig.job(1.0))).action == 1.0


async def test_imagination_comes_step_by_step_and_lets_acts_pass() -> None:
    async with Rig() as rig:
        loop = asyncio.get_running_loop()
        job = ImagineJob(
            model=rig.model,
            loop=loop,
            future=loop.create_future(),
            slot=rig.model.initial_slot,
            arguments={"steps": 20, "slice_s": 0.01},
            key=0,
        )
        rig.engine.stream(job)
        assert await job.steps.get() == 0
        began = time.monotonic()
        await rig.engine.submit(rig.job(within_s=0.05))
        assert time.monotonic() - began < 0.06
        seen = []
        while (step := await job.steps.get()) is not END:
            seen.append(step)
        assert seen == list(range(1, 20))


async def test_imagination_that_nobody_listens_to_stops() -> None:
    async with Rig() as rig:
        loop = asyncio.get_running_loop()
        job = ImagineJob(
            model=rig.model,
            loop=loop,
            future=loop.create_future(),
            slot=rig.model.initial_slot,
            arguments={"steps": 1000, "slice_s": 0.005},
            key=0,
        )
        rig.engine.stream(job)
        await job.steps.get()
        job.cancelled = True
        await rig.engine.call(lambda: None)
        await asyncio.sleep(0.03)
        made = job.steps.qsize()
        await asyncio.sleep(0.03)
        assert job.steps.qsize() == made < 20


async def test_the_event_loop_never_waits_for_the_worker() -> None:
    async with Rig() as rig:
        slow = rig.engine.submit(rig.job(settings=Search(slices=20, slice_s=0.02)))
        longest, before = 0.0, time.monotonic()
        while not slow.done():
            await asyncio.sleep(0.001)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
        assert longest < 0.1


async def test_stopping_tells_everybody_who_waits() -> None:
    rig = Rig()
    async with rig:
        rig.agent.gate.clear()
        running = rig.engine.submit(rig.job())
        await asyncio.sleep(0.02)
        waiting = rig.engine.submit(rig.job())
        stopping = asyncio.create_task(rig.engine.stop())
        await asyncio.sleep(0.02)
        rig.agent.gate.set()
        await stopping
        results = await asyncio.gather(running, waiting, return_exceptions=True)
        assert isinstance(results[1], EngineStopped)
        with pytest.raises(EngineStopped):
            rig.engine.submit(rig.job())
