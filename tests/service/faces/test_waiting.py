"""What a request needs only while it waits is made when it waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.faces.http.waiting import once_waiting


class Prepared:
    """Counts how often it was asked for."""

    times = 0

    def __call__(self) -> None:
        self.times += 1


async def test_work_that_need_not_wait_prepares_nothing() -> None:
    async def work() -> int:
        return 7

    async def fail() -> None:
        raise KeyError("x")

    prepared = Prepared()
    assert await once_waiting(work(), prepared) == 7
    with pytest.raises(KeyError):
        await once_waiting(fail(), prepared)
    assert prepared.times == 0


async def test_work_that_waits_prepares_once_and_gets_what_it_waited_for() -> None:
    loop, prepared = asyncio.get_running_loop(), Prepared()
    first: asyncio.Future[int] = loop.create_future()
    second: asyncio.Future[int] = loop.create_future()

    async def work() -> int:
        assert prepared.times == 0
        found = await first
        await asyncio.sleep(0.001)
        try:
            await second
        except OSError:
            return found
        return 0

    loop.call_later(0.001, first.set_result, 3)
    loop.call_later(0.005, second.set_exception, OSError())
    assert await once_waiting(work(), prepared) == 3
    assert prepared.times == 1


async def test_a_future_can_be_waited_for_too() -> None:
    loop, prepared = asyncio.get_running_loop(), Prepared()
    future: asyncio.Future[int] = loop.create_future()
    loop.call_soon(future.set_result, 5)
    assert await once_waiting(future, prepared) == 5
    assert prepared.times == 1


@pytest.mark.parametrize("forgiving", [False, True])
async def test_cancelling_reaches_the_work_which_may_go_on(forgiving: bool) -> None:
    seen: list[Any] = []

    async def work() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            if not forgiving:
                raise
        await asyncio.sleep(0)
        return "done"

    task = asyncio.create_task(_awaiting(work()))
    await asyncio.sleep(0)
    task.cancel()
    if forgiving:
        assert await task == "done"
    else:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert seen == ["cancelled"]


async def test_work_that_is_given_up_is_closed() -> None:
    closed: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    waiting = _awaiting(work())
    waiting.send(None)
    waiting.close()
    assert closed == [True]


async def _awaiting(work: Any) -> Any:
    return await once_waiting(work, Prepared())
