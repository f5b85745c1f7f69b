"""Acts measured through the engine, as the service asks it, and rows with their bars."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.threads import Served
from service.engine.engine import Engine
from service.engine.jobs import ActJob
from service.models.warmup import prepare
from service.operations.metrics import Metrics
from thick.planning.settings import session_key
from thick.runtimes.adapter import AgentRuntime


class Row(NamedTuple):
    """A bar and what was measured."""

    name: str
    measured: float | None
    """None where this machine cannot measure it"""
    unit: str
    bar: float
    stretch: float
    least: bool = False
    """the bar is the least that is asked, not the most"""
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the bar is met."""
        if self.measured is None:
            return True
        return self.measured >= self.bar if self.least else self.measured <= self.bar


def line(row: Row) -> str:
    """A row for people."""
    if row.measured is None:
        return f"{row.name:66} not measured: {row.note}"
    sign = "≥" if row.least else "≤"
    bars = f"{sign} {row.bar:7.3g} (stretch {row.stretch:.3g})"
    verdict = "" if row.met else "  MISSED"
    return f"{row.name:66} {row.measured:8.3g} {row.unit:5} {bars:26} {row.note}{verdict}"


async def act_times(
    runtime: AgentRuntime,
    seen: Sequence[Any],
    *,
    sessions: int,
    threads: int,
    seconds: float,
    settings: Mapping[str, Any] | None = None,
) -> float:
    """The median time in which so many sessions, which ask at once, have all acted, s.

    Args:
        seen: first observations, which take turns.
    """
    model: Any = Served("check", runtime)
    engine = Engine(metrics=Metrics(), threads=threads)
    engine.start()
    await prepare(model, runtime, engine)
    loop, planner = asyncio.get_running_loop(), runtime.settings(settings or {})
    known = getattr(runtime.agent.model.high, "known", None)

    async def act(number: int, step: int) -> None:
        job = ActJob(
            model=model,
            loop=loop,
            future=loop.create_future(),
            slot=model.initial_slot,
            session=str(number),
            observation=seen[(number + step) % len(seen)],
            is_first=True,
            settings=planner,
            key=session_key(number, step),
        )
        result = await engine.submit(job)
        model.slots.release(result.slot)

    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < until:
        if known is not None:
            known.clear()  # nothing is remembered of other acts
        began = time.perf_counter()
        await asyncio.gather(*(act(number, len(times)) for number in range(sessions)))
        times.append(time.perf_counter() - began)
    await engine.stop()
    return float(np.median(times[2:]))
