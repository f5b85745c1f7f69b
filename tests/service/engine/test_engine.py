"""The engine schedules: batches, deadlines, fairness, cancellation, and trouble that stays where it is."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from service.engine.jobs import DeadlinePassed, EngineStopped, ImagineJob, QueueFull
from service.engine.slots import SlotTable
from service.engine.tasks import END
from tests.service.fakes import FakePlan, FakeRuntime, Rig, Search

ENDLESS = Search(slices=10_000, slice_s=0.01)


async def test_acts_that_wait_are_planned_in_one_batch() -> None:
    async with Rig() as rig:
        first = await rig.block(rig.job(1.0))
        others = [rig.engine.submit(rig.job(float(n))) for n in range(2, 7)]
        rig.runtime.gate.set()
        results = await asyncio.gather(first, *others)
        assert [size for _, size in rig.runtime.log] == [1, 5]
        assert [result.action for result in results] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        assert [result.timing["batch_size"] for result in results] == [1, 5, 5, 5, 5, 5]


async def test_a_batch_is_never_larger_than_the_limit() -> None:
    async with Rig(max_batch=3) as rig:
        blocker = await rig.block()
        jobs = [rig.engine.submit(rig.job()) for _ in range(10)]
        rig.runtime.gate.set()
        await asyncio.gather(blocker, *jobs)
        assert max(size for _, size in rig.runtime.log) == 3


async def test_only_equal_settings_plan_together() -> None:
    async with Rig() as rig:
        blocker = await rig.block()
        few, many = Search(slices=1), Search(slices=2)
        jobs = [rig.engine.submit(rig.job(settings=each)) for each in (few, many, few, many, many)]
        rig.runtime.gate.set()
        await asyncio.gather(blocker, *jobs)
        assert sorted(rig.runtime.log[1:], key=str) == sorted([(few, 2), (many, 3), (many, 3)], key=str)


async def test_those_with_a_deadline_plan_apart_from_those_without() -> None:
    async with Rig() as rig:
        blocker = await rig.block()
        jobs = [rig.engine.submit(rig.job(within_s=limit)) for limit in (None, 20.0, None, 20.0)]
        rig.runtime.gate.set()
        await asyncio.gather(blocker, *jobs)
        assert [size for _, size in rig.runtime.log] == [1, 2, 2]


async def test_a_state_lands_in_a_fresh_slot_and_the_old_one_stays_as_it_was() -> None:
    async with Rig() as rig:
        slots = rig.model.slots
        result = await rig.engine.submit(rig.job(3.0))
        again = await rig.engine.submit(rig.job(4.0, slot=result.slot))
        assert again.action == 7.0
        assert slots.states([result.slot]).item() == 3.0
        assert slots.states([rig.model.initial_slot]).item() == 0.0
        assert slots.layout.split(again.state)["total"].item() == 7.0


# -- deadlines -------------------------------------------------------------------------------------------------


async def test_a_search_stops_in_time_and_says_how_far_it_came() -> None:
    async with Rig() as rig:
        result = await rig.engine.submit(rig.job(settings=ENDLESS, within_s=0.3, want_plan=True))
        assert result.plan is not None
        assert 1 <= result.plan["budget"]["iterations_done"] <= 30


async def test_each_session_of_a_batch_is_answered_at_its_own_deadline() -> None:
    async with Rig() as rig:
        blocker = await rig.block()
        soon = rig.engine.submit(rig.job(settings=ENDLESS, within_s=0.3, want_plan=True))
        later = rig.engine.submit(rig.job(settings=ENDLESS, within_s=0.9, want_plan=True))
        rig.runtime.gate.set()
        await blocker
        first = await soon
        assert not later.done()
        second = await later
        assert first.timing["batch_size"] == second.timing["batch_size"] == 2
        assert first.plan and second.plan
        assert first.plan["budget"]["iterations_done"] < second.plan["budget"]["iterations_done"] <= 90


async def test_a_deadline_is_kept_while_a_long_plan_runs() -> None:
    async with Rig() as rig:
        long = rig.engine.submit(rig.job(settings=Search(slices=300, slice_s=0.005)))
        await rig.until(lambda: bool(rig.runtime.log))
        short = Search(slices=5, slice_s=0.005)
        await rig.engine.submit(rig.job(settings=short, within_s=0.5))
        assert not long.done()
        assert [size for each, size in rig.runtime.log if each == short] == [1] * 5
        assert (await long).action == 1.0


async def test_the_earliest_deadline_goes_first_whatever_the_order_of_arrival() -> None:
    async with Rig() as rig:
        late, soon = Search(slices=3, samples=2), Search(slices=3, samples=3)
        for search in (late, soon):  # both are known to take longer than there is time
            rig.engine.costs.record(rig.model, search).plan_took(1, 100.0)
        blocker = await rig.block()
        jobs = [
            rig.engine.submit(rig.job(settings=late, within_s=10.0)),
            rig.engine.submit(rig.job(settings=soon, within_s=5.0)),
        ]
        rig.runtime.gate.set()
        await asyncio.gather(blocker, *jobs)
        assert [each for each, _ in rig.runtime.log[1:]] == [soon] * 3 + [late] * 3


async def test_cheap_acts_overtake_an_expensive_one_which_still_ends() -> None:
    async with Rig() as rig:
        cheap, expensive = Search(slices=1, slice_s=0.001), Search(slices=300, slice_s=0.005)
        await rig.engine.submit(rig.job(settings=cheap))
        long = rig.engine.submit(rig.job(settings=expensive))
        await rig.until(lambda: len(rig.runtime.log) > 100)
        for _ in range(5):
            before = len(rig.runtime.log)
            await rig.engine.submit(rig.job(settings=cheap))
            mine = [each for each, _ in rig.runtime.log].index(cheap, before)
            assert [each for each, _ in rig.runtime.log[before:mine]].count(expensive) <= 2
        assert not long.done()
        await asyncio.wait_for(long, 20)


async def test_who_came_first_is_answered_first_among_equals() -> None:
    async with Rig() as rig:
        search = Search(slices=4, slice_s=0.02)
        for _ in range(3):
            await rig.engine.submit(rig.job(settings=search))  # what it costs is known from here on
        order: list[str] = []
        futures = []

        def send(name: str, count: int) -> None:
            for _ in range(count):
                future = rig.engine.submit(rig.job(settings=search))
                future.add_done_callback(lambda _: order.append(name))
                futures.append(future)

        blocker = await rig.block()
        send("first", 8)
        before = len(rig.runtime.log)
        rig.runtime.gate.set()
        await rig.until(lambda: len(rig.runtime.log) > before)
        send("second", 1)  # a plan for one is due no sooner than one for eight that began before
        await asyncio.gather(blocker, *futures)
        assert order == ["first"] * 8 + ["second"]


async def test_an_expensive_plan_of_many_sessions_is_cut_so_that_the_first_need_not_wait_for_the_last() -> (
    None
):
    async with Rig() as rig:
        search = Search(slices=1, slice_s=0.1)
        for _ in range(3):
            await rig.engine.submit(rig.job(settings=search))
        blocker = await rig.block()
        jobs = [rig.engine.submit(rig.job(settings=search)) for _ in range(10)]
        rig.runtime.log.clear()
        rig.runtime.gate.set()
        await asyncio.gather(blocker, *jobs)
        assert [size for each, size in rig.runtime.log if each == search] == [4, 4, 2]


async def test_half_of_the_active_sessions_are_waited_for_and_one_alone_never_waits() -> None:
    async with Rig(batch_wait_s=60.0) as rig:
        for _ in range(3):
            await asyncio.wait_for(rig.engine.submit(rig.job(session="alone")), 20)
        blocker = await rig.block(rig.job(session="alone"))
        first = [rig.engine.submit(rig.job(session=str(number))) for number in range(8)]
        rig.runtime.gate.set()
        await asyncio.gather(blocker, *first)
        rig.runtime.log.clear()
        some = [rig.engine.submit(rig.job(session=str(number))) for number in range(4)]
        await asyncio.sleep(0.02)
        assert not rig.runtime.log
        some.append(rig.engine.submit(rig.job(session="4")))
        await asyncio.wait_for(asyncio.gather(*some), 20)  # no longer than until half of nine were there
        assert [size for _, size in rig.runtime.log] == [5]


async def test_a_deadline_that_passes_in_the_queue_is_reported_without_planning() -> None:
    async with Rig() as rig:
        blocker = await rig.block()
        late = rig.engine.submit(rig.job(within_s=0.01))
        await asyncio.sleep(0.03)
        rig.runtime.gate.set()
        with pytest.raises(DeadlinePassed):
            await late
        await blocker
        assert len(rig.runtime.log) == 1


async def test_where_it_is_allowed_a_late_act_is_answered_without_a_search_and_says_so() -> None:
    async with Rig() as rig:
        blocker = await rig.block()
        late = rig.engine.submit(rig.job(2.0, within_s=0.01, degradable=True))
        await asyncio.sleep(0.03)
        rig.runtime.gate.set()
        result = await late
        await blocker
        assert result.degraded and result.action == 2.0
        assert len(rig.runtime.log) == 1


# -- limits and trouble ------------------------------------------------------------------------------------------


async def test_a_full_queue_refuses_at_once() -> None:
    async with Rig(queue_limit=2) as rig:
        running = await rig.block()
        waiting = [rig.engine.submit(rig.job()) for _ in range(2)]
        with pytest.raises(QueueFull):
            rig.engine.submit(rig.job())
        rig.runtime.gate.set()
        await asyncio.gather(running, *waiting)
        await rig.engine.submit(rig.job())


async def test_a_cancelled_act_leaves_the_queue_and_its_slot_is_free_again() -> None:
    async with Rig() as rig:
        running = await rig.block()
        waiting = rig.engine.submit(rig.job())
        waiting.cancel()
        running.cancel()  # while it plans: the result is dropped
        rig.runtime.gate.set()
        await rig.until(lambda: not rig.engine.tasks and not rig.engine.depth and rig.model.slots.used == 1)
        assert len(rig.runtime.log) == 1


async def test_one_broken_session_does_not_fail_its_batch_mates() -> None:
    async with Rig() as rig:

        def observe(state: object, observation: object, **_: object) -> object:
            if (observation == 13.0).any():  # type: ignore[attr-defined]
                raise RuntimeError("cannot be observed")
            return (state + observation).astype(np.float32)  # type: ignore[operator]

        rig.runtime.observe = observe  # type: ignore[method-assign, assignment]
        blocker = await rig.block()
        jobs = [rig.engine.submit(rig.job(value)) for value in (1.0, 13.0, 2.0)]
        rig.runtime.gate.set()
        await blocker
        good, bad, fine = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(bad, RuntimeError)
        assert (good.action, fine.action) == (1.0, 2.0)  # type: ignore[union-attr]


async def test_a_plan_that_fails_is_reported_and_the_worker_goes_on() -> None:
    async with Rig() as rig:
        rig.runtime.broken = lambda state: bool((state == 13.0).any())
        with pytest.raises(RuntimeError, match="broken"):
            await rig.engine.submit(rig.job(13.0))
        assert (await rig.engine.submit(rig.job(1.0))).action == 1.0


@pytest.mark.parametrize(
    ("where", "part"), [(FakePlan, "result"), (FakeRuntime, "decode_action"), (SlotTable, "keep")]
)
async def test_a_plan_whose_result_cannot_be_had_is_reported_and_the_worker_goes_on(
    where: type, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no result")

    async with Rig() as rig:
        with monkeypatch.context() as patch:
            patch.setattr(where, part, broken)
            with pytest.raises(RuntimeError, match="no result"):
                await asyncio.wait_for(rig.engine.submit(rig.job(13.0)), 10)
        assert (await rig.engine.submit(rig.job(1.0))).action == 1.0


async def test_plans_run_side_by_side_where_there_is_room() -> None:
    async with Rig(plans_at_once=2) as rig:
        together = threading.Barrier(2, timeout=10)  # passed only by two slices that run at the same time
        rig.runtime.gate.wait = lambda timeout=None: together.wait() >= 0  # type: ignore[method-assign, assignment]
        slow, quick = Search(slices=3), Search(slices=2)
        one = rig.engine.submit(rig.job(1.0, settings=slow))
        other = rig.engine.submit(rig.job(2.0, settings=quick))
        third = rig.engine.submit(rig.job(3.0, settings=Search(slices=1, samples=2)))
        results = await asyncio.wait_for(asyncio.gather(one, other, third), 20)
        assert [result.action for result in results] == [1.0, 2.0, 3.0]
        assert len(rig.runtime.log) == 6


async def test_a_plan_that_fails_does_not_harm_its_neighbour() -> None:
    async with Rig(plans_at_once=2) as rig:
        rig.runtime.gate.set()
        rig.runtime.broken = lambda state: bool((state == 13.0).any())
        good = rig.engine.submit(rig.job(1.0, settings=Search(slices=5, slice_s=0.01)))
        bad = rig.engine.submit(rig.job(13.0, settings=Search(slices=4, slice_s=0.01)))
        results = await asyncio.gather(good, bad, return_exceptions=True)
        assert results[0].action == 1.0 and isinstance(results[1], RuntimeError)  # type: ignore[union-attr]


async def test_a_mistake_of_the_engine_s_own_leaves_nobody_waiting() -> None:
    async with Rig() as rig:
        blocker = await rig.block()
        waiting = rig.engine.submit(rig.job(settings=[]))  # cannot be looked up: raises within a turn
        rig.runtime.gate.set()
        await blocker
        with pytest.raises(TypeError):
            await waiting
        assert (await rig.engine.submit(rig.job(1.0))).action == 1.0


async def test_the_event_loop_never_waits_for_the_worker() -> None:
    async with Rig() as rig:
        slow = rig.engine.submit(rig.job(settings=Search(slices=20, slice_s=0.02)))
        turns = 0
        while not slow.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 20, "more turns than slices"


async def test_stopping_answers_everybody_who_waits() -> None:
    rig = Rig()
    async with rig:
        running = await rig.block()
        waiting = rig.engine.submit(rig.job())
        stopping = asyncio.create_task(rig.engine.stop())
        await asyncio.sleep(0)
        rig.runtime.gate.set()
        await stopping
        results = await asyncio.gather(running, waiting, return_exceptions=True)
        assert isinstance(results[1], EngineStopped)
        with pytest.raises(EngineStopped):
            rig.engine.submit(rig.job())


# -- imagination -------------------------------------------------------------------------------------------------


def imagination(rig: Rig, steps: int, slice_s: float) -> ImagineJob:
    loop = asyncio.get_running_loop()
    return ImagineJob(
        model=rig.model,
        loop=loop,
        future=loop.create_future(),
        slot=rig.model.initial_slot,
        arguments={"steps": steps, "slice_s": slice_s},
        key=0,
    )


async def test_imagination_comes_step_by_step_and_lets_acts_pass() -> None:
    async with Rig() as rig:
        await rig.engine.submit(rig.job())
        job = rig.engine.stream(imagination(rig, 40, 0.01))
        assert await job.steps.get() == 0
        await rig.engine.submit(rig.job(within_s=5.0))
        assert job.steps.qsize() < 20
        seen = []
        while (step := await job.steps.get()) is not END:
            seen.append(step)
        assert seen == list(range(1, 40))


async def test_imagination_that_nobody_listens_to_stops() -> None:
    async with Rig() as rig:
        job = rig.engine.stream(imagination(rig, 10_000, 0.005))
        await job.steps.get()
        job.cancelled = True
        await rig.until(lambda: not rig.engine.tasks)
        assert job.steps.qsize() < 5000
