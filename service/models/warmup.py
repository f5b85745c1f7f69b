"""What happens between reading a model and calling it ready: slots are made, and every path is walked
once."""

from __future__ import annotations

import gc
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from service.engine.slots import Layout, SlotTable
from service.engine.tasks import collate, synchronise
from service.protocol.spaces import Space

if TYPE_CHECKING:
    from service.engine.engine import Engine
    from service.models.repository import Hosted

SLICES = 3
"""slices of each kind of plan that are run"""
BATCHES = (1, 2, 8, 21, 32)
"""sessions that are planned for together; each of these shapes is prepared when it is first met"""
TIMES = 2
"""how often: what is met again is prepared more thoroughly"""


async def prepare(hosted: Hosted, agent: Any, engine: Engine) -> None:
    """Give a model its slots and run an observation and some slices of each kind of plan, so that the first
    client pays for no lazy initialisation. Each slice is a call of its own: other models' requests go in
    between."""

    def make() -> None:
        state = agent.initial(1)
        hosted.layout = Layout(state)
        hosted.slots = SlotTable(hosted.layout, agent.device)
        (hosted.initial_slot,) = hosted.slots.put(hosted.layout.pack(state))

    await engine.call(make)
    assert hosted.observation_space is not None
    for method in ("policy", "flat", "hierarchical"):
        if agent.has(method):
            settings = agent.settings({"method": method, "seed": None})
            for batch in BATCHES if method == "policy" else BATCHES[:2]:
                for _ in range(TIMES):
                    await _plan_once(hosted, agent, engine, settings, batch)
    # What a loaded model consists of stays; looking through it again and again for garbage would stop everybody.
    gc.collect()
    gc.freeze()
    hosted.agent = agent


async def _plan_once(hosted: Hosted, agent: Any, engine: Engine, settings: Any, batch: int) -> None:
    rng = np.random.default_rng(0)
    assert hosted.observation_space is not None
    observations = [sample(hosted.observation_space, rng) for _ in range(batch)]

    def begin() -> Any:
        keys = torch.arange(batch, device=agent.device)
        first = torch.ones(batch, dtype=torch.bool, device=agent.device)
        state = agent.observe(
            agent.initial(batch), collate(observations, agent.device), is_first=first, keys=keys
        )
        return agent.plan(state, settings, keys=keys)

    planning = await engine.call(begin)
    for index in range(SLICES):
        if not planning.done:
            await engine.call(partial(timed, engine, hosted, planning, settings, batch, index))

    def finish() -> None:
        output = planning.result()
        output.info(0)
        agent.decode_action(output.action)

    await engine.call(finish)


def timed(engine: Engine, hosted: Hosted, planning: Any, settings: Any, batch: int, index: int) -> None:
    """One slice, from which the engine learns what a slice costs; on the worker."""
    began = time.perf_counter()
    planning.step()
    synchronise(hosted.slots.device)
    if index:  # the first pays for lazy initialisation
        engine.costs.slice_took(hosted, settings, batch, index, time.perf_counter() - began)


def sample(space: Space, rng: np.random.Generator) -> Any:
    """A random observation of a space."""
    drawn = space.sample(rng)
    if isinstance(drawn, dict):
        return {key: np.asarray(value) for key, value in drawn.items()}
    return np.asarray(drawn)
