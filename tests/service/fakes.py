"""A stand-in for an agent, for tests of scheduling alone: what it computes is trivial, how long it takes is given."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from service.engine.engine import Engine
from service.engine.jobs import ActJob
from service.engine.slots import Layout, SlotTable
from service.operations.metrics import Metrics


@dataclass(frozen=True)
class Search:
    """Planner settings of the fake: how many slices, and how long each takes."""

    slices: int = 1
    slice_s: float = 0.0
    samples: int = 1
    horizon: int = 1
    seed: int | None = None


class FakeState(NamedTuple):
    total: Tensor
    """[B] sum of everything observed"""


class Output(NamedTuple):
    action: Tensor
    state: FakeState
    phase_ms: dict[str, float]
    done: int
    asked: int

    def budget(self, row: int) -> dict[str, int]:
        return {"iterations_done": self.done, "iterations_asked": self.asked}

    def info(self, row: int) -> dict[str, Any]:
        return {"method": "flat", "budget": self.budget(row)}


class FakePlanning:
    def __init__(self, agent: FakeAgent, state: FakeState, settings: Search) -> None:
        self.agent, self.state, self.settings, self.slices = agent, state, settings, 0

    @property
    def done(self) -> bool:
        return self.slices >= self.settings.slices

    def step(self) -> None:
        self.agent.log.append((self.settings, len(self.state.total)))
        if self.agent.broken(self.state):
            raise RuntimeError("this agent is broken")
        self.agent.gate.wait(20)
        time.sleep(self.settings.slice_s)
        self.slices += 1

    def result(self) -> Output:
        return Output(
            self.state.total.clone(), self.state, {"low_plan_ms": 0.0}, self.slices, self.settings.slices
        )


@dataclass
class FakeAgent:
    device: Any = field(default_factory=lambda: torch.device("cpu"))
    gate: threading.Event = field(default_factory=threading.Event)
    """slices wait for it"""
    log: list[tuple[Search, int]] = field(default_factory=list)
    """settings and batch size of every slice, in order"""
    broken: Callable[[FakeState], bool] = lambda state: False

    def __post_init__(self) -> None:
        self.gate.set()

    def initial(self, batch: int) -> FakeState:
        return FakeState(torch.zeros(batch))

    def observe(self, state: FakeState, observation: Tensor, **_: Any) -> FakeState:
        return FakeState(state.total + observation)

    def plan(self, state: FakeState, settings: Search, *, keys: Tensor, budget_s: float | None = None) -> Any:
        return FakePlanning(self, state, settings)

    def decode_action(self, action: Tensor) -> list[float]:
        return action.tolist()

    def imagine_in_parts(self, state: FakeState, *, steps: int, slice_s: float, **_: Any) -> Iterator[int]:
        for index in range(steps):
            time.sleep(slice_s)
            yield index


class FakeModel:
    """A hosted fake agent."""

    name, version = "fake", "1"

    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent
        self.slots = SlotTable(Layout(agent.initial(1)), "cpu", capacity=2)
        (self.initial_slot,) = self.slots.put(self.slots.layout.pack(agent.initial(1)))


class Rig:
    """An engine over one fake model."""

    def __init__(self, **options: Any) -> None:
        self.agent = FakeAgent()
        self.model = FakeModel(self.agent)
        self.metrics = Metrics()
        self.engine = Engine(metrics=self.metrics, **{"batch_wait_s": 0.0, **options})

    async def __aenter__(self) -> Rig:
        self.engine.start()
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.agent.gate.set()
        await self.engine.stop()

    async def block(self, job: ActJob | None = None) -> asyncio.Future[Any]:
        """Start an act whose slice waits until ``agent.gate`` is set; returns once the worker is in it."""
        self.agent.gate.clear()
        before = len(self.agent.log)
        future = self.engine.submit(job or self.job())
        await self.until(lambda: len(self.agent.log) > before)
        return future

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    def job(self, observation: float = 1.0, *, within_s: float | None = None, **changes: Any) -> ActJob:
        """An act, due ``within_s`` from now."""
        loop = asyncio.get_running_loop()
        due = None if within_s is None else time.monotonic() + within_s
        values: dict[str, Any] = {
            "model": self.model,
            "loop": loop,
            "future": loop.create_future(),
            "slot": self.model.initial_slot,
            "observation": torch.tensor(observation).numpy(),
            "is_first": True,
            "settings": Search(),
            "key": 0,
            "deadline": due,
            "finish_by": due,
        }
        return ActJob(**{**values, **changes})
