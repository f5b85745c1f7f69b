"""Planning held to its bars, row by row, in one run on this machine.

    python benchmarks/planning.py --check [--seconds 3]

Ratios are to the floor: the operations of the model over the best product rate found in this run, with as many threads.
Times in milliseconds are asked of a core of 80 GFLOP/s and scale with the rate found here. Everything goes the way
that the service goes: the native runtime, and acts through the engine. Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from typing import Any

import numpy as np

from benchmarks import native
from benchmarks import searches as searches_of_equal_return
from benchmarks.acting import Row, act_times, line
from benchmarks.threads import company
from thick.models.config import ModelConfig
from thick.planning.jumps import JumpModel
from thick.planning.mcts import MCTS
from thick.runtimes.native import library
from thick.runtimes.native.model import NativeModel
from thick.runtimes.native.runtime import NativeRuntime

REFERENCE = 80e9
"""operations a second of the core that times in milliseconds are asked of"""
HUNDREDFOLD = {"samples": 2000, "iterations": 30, "elites": 200, "simulations": 4000}
"""ten times the candidates of doorkey6, ten times as often, and a hundred times its simulations"""
DOORKEY = "minigrid:MiniGrid-DoorKey-6x6-v0+map"


def main(options: argparse.Namespace) -> int:
    """Measure, print, and say whether all bars are met."""
    seconds = options.seconds
    library.use_threads(1)
    rates = native.product_rates(seconds / 2)
    rate = max(rates.values())
    found = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in rates.items())
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{library.instructions()}; products, GFLOP/s on one thread: {found}; load {load:.1f}\n")
    rows: list[Row] = []
    for part in (rollouts, threads, searches, acts, elsewhere):
        for row in part(rate, seconds):
            rows.append(row)
            print(line(row), flush=True)
    missed = [row.name for row in rows if not row.met]
    print(f"\n{len(missed)} of {len(rows)} bars missed" + (f": {'; '.join(missed)}" if missed else ""))
    return 1 if missed else 0


# -- rollouts, searches: the native runtime by itself -----------------------------------------------------------------


def rollouts(rate: float, seconds: float) -> list[Row]:
    """Candidates imagined on one thread, against their floor."""
    rng = np.random.default_rng(0)
    made, pause = [], 0.0
    for title, model, samples, horizon, shared, bar, stretch in (
        ("doorkey6's size, 3 × 200 × 14, sampled", native.bundled("doorkey6"), 200, 14, False, 1.2, 1.05),
        (
            "doorkey6, 3 × 200 × 14, modes: shared prefixes",
            native.bundled("doorkey6"),
            200,
            14,
            True,
            0.8,
            0.6,
        ),
        ("the paper's size, 3 × 200 × 12, sampled", native.paper(), 200, 12, False, 1.3, 1.15),
    ):
        plan = native.planned(model, native.searched(model.exact.action, samples, horizon, rng), rng)
        pauses: list[float] = []
        took = native.best(
            lambda p=plan, s=shared, n=pauses: n.append(p(None if s else native.Keys(1))), seconds
        )
        floor = 3 * samples * horizon * native.step_operations(model) / rate
        pause = max(pause, sorted(pauses)[len(pauses) // 2])
        note = f"{1e3 * took:.1f} ms, floor {1e3 * floor:.1f} ms"
        made.append(Row(f"{title}, 1 thread: ratio to floor", took / floor, "", bar, stretch, note=note))
    made.append(Row("the longest pause in these", 1e3 * pause, "ms", 2.0, 1.5))
    return made


def threads(rate: float, seconds: float) -> list[Row]:
    """What a second thread brings, with the machine to itself and with a program that takes a core."""
    if (os.cpu_count() or 1) < 2:
        return [Row("2 threads over 1", None, "", 1.7, 1.9, True, "one core")]
    rng = np.random.default_rng(0)
    model = native.bundled("doorkey6")
    plan = native.planned(model, native.searched(model.exact.action, 200, 14, rng), rng)

    def gain() -> float:
        times: dict[int, list[float]] = {1: [], 2: []}
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for count, taken in times.items():
                library.use_threads(count)
                began = time.perf_counter()
                plan(native.Keys(1))
                taken.append(time.perf_counter() - began)
        library.use_threads(1)
        return float(np.median(times[1]) / np.median(times[2]))

    made = [Row("2 threads over 1, sampled rollouts of doorkey6's size", gain(), "times", 1.7, 1.9, True)]
    with company():
        made.append(Row("the same with a program that takes a core", gain(), "times", 1.0, 1.2, True))
    return made


def searches(rate: float, seconds: float) -> list[Row]:
    """The search over jumps, from states that it has never seen."""
    scale = REFERENCE / rate
    model = native.bundled("doorkey6")
    beliefs = observed(model, 8)
    rng = np.random.default_rng(0)
    large = native.paper()
    many = [native.start(large, 1, rng) for _ in range(4)]
    return [
        Row(
            "search over jumps, doorkey6, 40 simulations, 1 thread",
            1e3 * searched(model, beliefs, 40, 1, seconds),
            "ms",
            4 * scale,
            2 * scale,
        ),
        Row(
            "search over jumps, the paper's size, 100 simulations, 2 threads",
            1e3 * searched(large, many, 100, 2, seconds),
            "ms",
            100 * scale,
            30 * scale,
        ),
    ]


def searched(model: NativeModel, beliefs: list[Any], simulations: int, count: int, seconds: float) -> float:
    """The mean over beliefs of the best time of a search, s."""
    high = model.high
    assert high is not None

    def search(belief: Any) -> float:
        assert high is not None
        high.known.clear()
        began = time.perf_counter()
        found = MCTS(JumpModel(high, belief.stoch, belief.context), simulations=simulations, depth=8)
        while not found.done:
            found.step()
        return time.perf_counter() - began

    library.use_threads(count)
    times: list[list[float]] = [[] for _ in beliefs]
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or not times[-1]:
        for belief, taken in zip(beliefs, times, strict=True):
            taken.append(search(belief))
    library.use_threads(1)
    return float(np.mean([min(taken) for taken in times]))


def resets(count: int) -> list[Any]:
    """First observations of episodes of the bundled room."""
    from thick.envs import make

    env = make(DOORKEY)
    return [env.reset(seed=1000 + seed)[0] for seed in range(count)]


def observed(model: NativeModel, count: int) -> list[Any]:
    """What the model believes after first observations."""
    made = []
    for seen in resets(count):
        batch = {key: x[None] for key, x in seen.items()} if isinstance(seen, dict) else seen[None]
        action = np.zeros((1, model.exact.action), np.float32)
        made.append(model.observe(model.initial(1), action, model.encode(batch), np.ones(1, bool)))
    return made


# -- acts: through the engine, as the service asks it ------------------------------------------------------------------


def acts(rate: float, seconds: float) -> list[Row]:
    """Whole acts. Each begins an episode, so that each searches on both levels."""
    return asyncio.run(_acts(REFERENCE / rate, seconds))


async def _acts(scale: float, seconds: float) -> list[Row]:
    hierarchical, seen = native_runtime("doorkey6"), resets(16)
    one = await act_times(hierarchical, seen, sessions=1, threads=1, seconds=seconds)
    ten = await act_times(hierarchical, seen, sessions=10, threads=2, seconds=2 * seconds)
    policy = await act_times(with_actor(), seen, sessions=1, threads=1, seconds=seconds)
    return [
        Row("hierarchical act of doorkey6, engine, 1 thread: p50", 1e3 * one, "ms", 50 * scale, 30 * scale),
        Row("ten sessions at once, 2 threads: an act", 1e3 * ten / 10, "ms", 30 * scale, 20 * scale),
        Row("policy act, doorkey6's size, engine only: p50", 1e3 * policy, "ms", 0.3 * scale, 0.15 * scale),
    ]


def native_runtime(name: str) -> NativeRuntime:
    """A bundled checkpoint in the native runtime."""
    from thick.runtimes.native.runtime import open_runtime

    return open_runtime(native.ROOT / "checkpoints" / name / "1")


def with_actor() -> NativeRuntime:
    """A model of doorkey6's size that acts by its actor, with random weights."""
    from thick.models.networks import AgentNetworks
    from thick.runtimes.native.agents import native_agent

    like = native_runtime("doorkey6").agent
    config = ModelConfig(
        behaviour="actor_critic",
        stoch=16,
        classes=8,
        deter=128,
        hidden=128,
        context=8,
        mlp_layers=2,
        mlp_units=256,
        head_layers=2,
        head_units=128,
    )
    networks = AgentNetworks(config, like.observation_space, like.action_space)
    return NativeRuntime(native_agent(networks, planner={"method": "policy"}))


def elsewhere(rate: float, seconds: float) -> list[Row]:
    """What goes over HTTP, and what is not measured here, and why."""
    scale = REFERENCE / rate
    return [
        Row(
            f"{searches_of_equal_return.CHEAPEST}: cheapest of equal return, over HTTP, p50",
            searches_of_equal_return.http_ms(
                seconds, searches_of_equal_return.SEARCHES[searches_of_equal_return.CHEAPEST]
            ),
            "ms",
            10 * scale,
            5 * scale,
        ),
        Row(
            "a deadline of 20 ms, a hundred times the budget, over HTTP: p50",
            searches_of_equal_return.http_ms(seconds, {**HUNDREDFOLD, "deadline_ms": 20}),
            "ms",
            25,
            22,
        ),
        Row("the paper's size on a GPU, one session", None, "ms", 8, 4, note="no GPU"),
        Row("the paper's size on a GPU, acts a second", None, "1/s", 500, 1000, True, "no GPU"),
    ]
