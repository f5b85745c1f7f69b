"""How results and refusals leave the worker: onto the event loop of whoever waits for them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from service.engine.jobs import ActResult, Job


def settle(future: asyncio.Future[Any], result: Any, error: BaseException | None = None) -> bool:
    """Resolve a future unless nobody waits any more; on the event loop."""
    if future.done():
        return False
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
    return True


def fail(job: Job, error: BaseException) -> None:
    """Report to whoever waits for a job that it failed; from the worker."""
    job.loop.call_soon_threadsafe(settle, job.future, None, error)


def deliver(results: Sequence[tuple[Job, ActResult]], release: Callable[[int], None]) -> None:
    """Hand results over, with one wake-up for each event loop that is not the caller's; a result that nobody takes
    gives its slot back."""

    def hand_over(mine: list[tuple[Job, ActResult]]) -> None:
        for job, result in mine:
            if not settle(job.future, result):
                release(result.slot)

    loops: dict[asyncio.AbstractEventLoop, list[tuple[Job, ActResult]]] = defaultdict(list)
    for job, result in results:
        loops[job.loop].append((job, result))
    here = asyncio._get_running_loop()  # None on the worker; the public function raises there
    for loop, mine in loops.items():
        if loop is here:
            hand_over(mine)
        else:
            loop.call_soon_threadsafe(hand_over, mine)
