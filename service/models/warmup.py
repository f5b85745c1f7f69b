"""What happens between opening a model and calling it ready: slots are made, and every path is walked
once."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import structlog

from service.engine.engine import Engine
from service.engine.jobs import Observation, collate
from service.models.hosted import Hosted
from service.operations import memory
from thick.planning.settings import PlannerSettings
from thick.runtimes.protocol import AnytimePlan, Runtime
from thick.spaces import Space

log = structlog.get_logger("thick.models")

SLICES = 3
"""slices of each kind of plan that are run"""
BATCHES = (1, 2, 8, 21, 32)
"""sessions that are planned for together; each of these shapes is prepared when it is first met"""
TIMES = 2
"""how often: what is met again is prepared more thoroughly"""


async def prepare(hosted: Hosted, runtime: Runtime, engine: Engine) -> None:
    """Give a model its slots and run an observation and some slices of each kind of plan, so that the first
    client pays for no lazy initialisation. Each slice is a call of its own: other models' requests go in
    between.

    On a CPU they are run with each number of threads that the engine might use, and it keeps those that give the same
    numbers: how a matrix product is divided can change its last bits. A runtime that promises the same numbers with
    any is run with all threads alone.
    """
    assert hosted.observation_space is not None
    exact = runtime.info.exact
    counts = (max(engine.parallel.counts),) if exact else engine.parallel.counts
    alike = set(counts)
    for method in ("policy", "flat", "hierarchical"):
        if runtime.has(method):
            settings = runtime.settings({"method": method, "seed": None})
            for batch in BATCHES if method == "policy" else BATCHES[:2]:
                found: dict[int, bytes] = {}
                for threads in _in_turn(counts):
                    found[threads] = await _plan_once(hosted, runtime, engine, settings, batch, threads)
                reference = found[min(found)]
                alike = {threads for threads in alike if found[threads] == reference}
    if exact:
        engine.parallel.use_all(hosted)
    else:
        if alike != set(counts):
            log.info("threads", model=hosted.name, version=hosted.version, alike=sorted(alike))
        engine.parallel.allow(hosted, sorted(alike))
    # What a loaded model consists of stays; looking through it again and again for garbage would stop everybody.
    gc.collect()
    gc.freeze()
    memory.give_back()
    await engine.call(partial(hosted.bring, runtime))


def _in_turn(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Each number of threads, and the last one until there were ``TIMES`` runs."""
    return (*counts, *[counts[-1]] * (TIMES - len(counts)))


async def _plan_once(
    hosted: Hosted,
    runtime: Runtime,
    engine: Engine,
    settings: PlannerSettings,
    batch: int,
    threads: int,
) -> bytes:
    """Some slices of a plan; the packed states that came out."""
    rng = np.random.default_rng(0)
    assert hosted.observation_space is not None
    observations = [sample(hosted.observation_space, rng) for _ in range(batch)]

    use_threads = partial(runtime.use_threads, threads)

    def begin() -> AnytimePlan:
        use_threads()
        keys = np.arange(batch, dtype=np.int64)
        state = runtime.observe(
            runtime.initial(batch), collate(observations), is_first=np.ones(batch, np.bool_), keys=keys
        )
        return runtime.plan(state, settings, keys=keys)

    plan = await engine.call(begin)
    for index in range(SLICES):
        if not plan.done:
            await engine.call(partial(timed, engine, hosted, plan, settings, batch, index, use_threads))

    def finish() -> bytes:
        found = plan.result()
        found.info(0)
        runtime.decode_action(found.action)
        return runtime.pack(found.state).tobytes()

    packed: bytes = await engine.call(finish)
    return packed


def timed(
    engine: Engine,
    hosted: Hosted,
    plan: AnytimePlan,
    settings: PlannerSettings,
    batch: int,
    index: int,
    use_threads: Callable[[], None],
) -> None:
    """One slice, from which the engine learns what a slice costs; on the worker."""
    use_threads()
    began = time.perf_counter()
    plan.step()
    if index:  # the first pays for lazy initialisation
        engine.costs.record(hosted, settings).slice_took(batch, index, time.perf_counter() - began)


def sample(space: Space, rng: np.random.Generator) -> Observation:
    """A random observation of a space."""
    drawn: Any = space.sample(rng)
    if isinstance(drawn, dict):
        return {key: np.asarray(value) for key, value in drawn.items()}
    return np.asarray(drawn)
