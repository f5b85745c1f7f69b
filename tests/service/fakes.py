"""A stand-in for a runtime, for tests of scheduling alone: what it computes is trivial, how long it takes is given."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.engine.engine import Engine
from service.engine.jobs import ActJob
from service.engine.slots import SlotTable
from service.operations.metrics import Metrics
from thick.runtimes.layout import Layout
from thick.runtimes.protocol import Rows, RuntimeInfo
from thick.runtimes.rows import HostRows


@dataclass(frozen=True)
class Search:
    """Planner settings of the fake: how many slices, and how long each takes."""

    slices: int = 1
    slice_s: float = 0.0
    samples: int = 1
    horizon: int = 1
    seed: int | None = None


class FakePlan:
    def __init__(self, runtime: FakeRuntime, state: np.ndarray, settings: Search) -> None:
        self.runtime, self.state, self.settings, self.slices = runtime, state, settings, 0

    @property
    def done(self) -> bool:
        return self.slices >= self.settings.slices

    @property
    def phase(self) -> str:
        return "low"

    def step(self) -> None:
        self.runtime.log.append((self.settings, len(self.state)))
        if self.runtime.broken(self.state):
            raise RuntimeError("this runtime is broken")
        self.runtime.gate.wait(20)
        time.sleep(self.settings.slice_s)
        self.slices += 1

    def result(self) -> FakeResult:
        return FakeResult(self.state, self.slices, self.settings.slices)


class FakeResult:
    def __init__(self, state: np.ndarray, done: int, asked: int) -> None:
        self.action, self.state, self.phase_ms = state[:, None].copy(), state, {"low_plan_ms": 0.0}
        self._done, self._asked = done, asked

    def budget(self, row: int) -> dict[str, Any]:
        return {"iterations_done": self._done, "iterations_asked": self._asked}

    def info(self, row: int) -> dict[str, Any]:
        return {"method": "flat", "budget": self.budget(row)}


@dataclass
class FakeRuntime:
    """Its states are the sums of everything observed, ``[B]`` float32."""

    gate: threading.Event = field(default_factory=threading.Event)
    """slices wait for it"""
    log: list[tuple[Search, int]] = field(default_factory=list)
    """settings and batch size of every slice, in order"""
    threads: list[int] = field(default_factory=list)
    """what was asked for, in order"""
    broken: Callable[[np.ndarray], bool] = lambda state: False
    info: RuntimeInfo = field(
        default_factory=lambda: RuntimeInfo("fake", "cpu", "fp32", "none", side_by_side=True)
    )
    layout: Layout = field(default_factory=lambda: Layout([("total", "float32", ())]))
    planner: Any = field(default_factory=Search)
    observation_space: Any = None
    action_space: Any = None
    high_actions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.gate.set()

    def has(self, method: str) -> bool:
        return method == "flat"

    def settings(self, changes: Any) -> Any:
        return self.planner

    def use_threads(self, count: int) -> None:
        self.threads.append(count)

    def initial(self, batch: int) -> np.ndarray:
        return np.zeros(batch, np.float32)

    def pack(self, state: np.ndarray) -> np.ndarray:
        return self.layout.pack([state])

    def unpack(self, rows: np.ndarray) -> np.ndarray:
        return self.layout.unpack(rows)[0].copy()

    def take(self, state: np.ndarray, rows: Any) -> np.ndarray:
        return state[list(rows)]

    def rows(self, capacity: int) -> Rows:
        return HostRows(self, capacity)

    def observe(self, state: np.ndarray, observation: Any, **_: Any) -> np.ndarray:
        return (state + observation).astype(np.float32)

    def plan(self, state: np.ndarray, settings: Any, *, keys: Any, budget_s: float | None = None) -> FakePlan:
        return FakePlan(self, state, settings)

    def imagine(self, state: np.ndarray, *, steps: int, slice_s: float, **_: Any) -> Iterator[Any]:
        for index in range(steps):
            time.sleep(slice_s)
            yield index

    def encode_action(self, actions: Any) -> np.ndarray:
        return np.asarray(actions, np.float32)[:, None]

    def decode_action(self, action: np.ndarray) -> list[float]:
        return [float(value) for value in action[:, 0]]


class FakeModel:
    """A hosted fake."""

    name, version = "fake", "1"

    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.slots = SlotTable(runtime, capacity=2)
        (self.initial_slot,), _ = self.slots.keep(runtime.initial(1), 1)


class Rig:
    """An engine over one fake model."""

    def __init__(self, **options: Any) -> None:
        self.runtime = FakeRuntime()
        self.model = FakeModel(self.runtime)
        self.metrics = Metrics()
        self.engine = Engine(metrics=self.metrics, **{"batch_wait_s": 0.0, "plans_at_once": 1, **options})

    async def __aenter__(self) -> Rig:
        self.engine.start()
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.runtime.gate.set()
        await self.engine.stop()

    async def block(self, job: ActJob | None = None) -> asyncio.Future[Any]:
        """Start an act whose slice waits until ``runtime.gate`` is set; returns once the worker is in it."""
        self.runtime.gate.clear()
        before = len(self.runtime.log)
        future = self.engine.submit(job or self.job())
        await self.until(lambda: len(self.runtime.log) > before)
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
            "observation": np.float32(observation),
            "is_first": True,
            "settings": Search(),
            "key": 0,
            "deadline": due,
            "finish_by": due,
        }
        return ActJob(**{**values, **changes})
