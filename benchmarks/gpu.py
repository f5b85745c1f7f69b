"""Planning on a GPU at the paper's size, row by row, in one run on this machine.

    python benchmarks/planning.py --device cuda [--seconds 3] [--check] [--json FILE]

An act observes a 64×64 image and plans: 1000 candidates × 12 steps × 10 iterations, and 100 simulations over 5
high-level actions where the high level searches. Weights are random; each act begins an episode, so that both levels
search. Rows with ``engine`` go the way that the service goes. Beside the time stands the share of the best product rate
measured in this run that the products of the candidates come to. ``plain`` is the same model, operation by operation.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

import numpy as np
import torch

from benchmarks.acting import Row, act_times
from benchmarks.acting import line as bar
from benchmarks.planning import operations, paper_networks, rate
from thick.agent import Agent
from thick.planning.settings import session_key
from thick.runtimes.torch.agents import torch_agent
from thick.runtimes.torch.dynamics import FrozenDynamics
from thick.runtimes.torch.gpu import parts
from thick.runtimes.torch.gpu.recorded import RecordingDynamics
from thick.runtimes.torch.high import FrozenHighLevel
from thick.runtimes.torch.runtime import TorchRuntime

SESSIONS = (1, 8, 32, 64, 128)
MET = 4
"""acts before it is measured: what was met twice is recorded"""
FORMS = ("plain", "graphs", "kernels")


def main(options: argparse.Namespace) -> int:
    """Measure, print, and say whether the bars are met."""
    options.no_end, options.actions = False, "continuous"
    device = options.device
    name = torch.cuda.get_device_name(device)
    rates = {kind: rate(getattr(torch, kind), device) for kind in ("float32", "bfloat16")}
    found = ", ".join(f"{kind} {value / 1e12:.0f}" for kind, value in rates.items())
    print(f"{name}, torch {torch.__version__}; products, TFLOP/s: {found}\n", flush=True)
    report: dict[str, Any] = {"device": name, "torch": torch.__version__, "rates_flops": rates, "rows": []}
    networks = paper_networks(options)
    runtime = runtime_of(networks, device, "kernels")
    for form in FORMS:
        each = runtime if form == "kernels" else runtime_of(networks, device, form)
        for method, high in (("flat", "mcts"), ("hierarchical", "mcts"), ("hierarchical", "tree")):
            report["rows"].append(acts(each, form, method, high, 1, options.seconds, rates["bfloat16"]))
            print(line(report["rows"][-1]), flush=True)
    for method, high in (("flat", "mcts"), ("hierarchical", "mcts"), ("hierarchical", "tree")):
        for sessions in SESSIONS[1:]:
            row = acts(runtime, "kernels", method, high, sessions, options.seconds, rates["bfloat16"])
            report["rows"].append(row)
            print(line(row), flush=True)
    rows = asyncio.run(through_the_engine(runtime, options.seconds))
    print("\n" + "\n".join(map(bar, rows)))
    report["engine"] = [row._asdict() for row in rows]
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(options.check and not all(row.met for row in rows))


def runtime_of(networks: Any, device: str, form: str) -> TorchRuntime:
    """The runtime of networks: ``kernels`` as it is served, ``graphs`` without kernels of our own, or ``plain``."""
    kept = parts.dynamics, parts.HighLevel
    if form == "graphs":
        parts.dynamics = RecordingDynamics  # type: ignore[assignment]
    elif form == "plain":
        parts.dynamics, parts.HighLevel = FrozenDynamics, FrozenHighLevel  # type: ignore[assignment, misc]
    try:
        agent: Agent[Any] = torch_agent(networks, device=device)
    finally:
        parts.dynamics, parts.HighLevel = kept  # type: ignore[misc]
    return TorchRuntime(agent)


def acts(
    runtime: TorchRuntime, form: str, method: str, high: str, sessions: int, seconds: float, peak: float
) -> dict[str, Any]:
    """Times of acts of so many sessions at once, from numpy to numpy."""
    settings = runtime.settings({"method": method, "high": high, "actor_proposals": 0, "critic": False})
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(8, sessions, 64, 64, 3), dtype=np.uint8)
    first, initial = np.ones(sessions, bool), runtime.initial(sessions)
    times: list[float] = []
    phases: dict[str, float] = {}
    until = 0.0
    while len(times) < MET + 6 or time.perf_counter() < until:
        keys = np.array([session_key(session, len(times)) for session in range(sessions)])
        began = time.perf_counter()
        state = runtime.observe(initial, images[len(times) % 8], is_first=first, keys=keys)
        seen = time.perf_counter()
        plan = runtime.plan(state, settings, keys=keys)
        while not plan.done:
            plan.step()
        result = plan.result()
        times.append(time.perf_counter() - began)
        phases = {"observe_ms": 1e3 * (seen - began), **result.phase_ms}
        if len(times) == MET:
            until = time.perf_counter() + seconds
    times = times[MET:]
    median = float(np.median(times))
    work = operations(runtime.agent.model, settings)["low"] * sessions
    return {
        "form": form,
        "method": method,
        "high": high,
        "sessions": sessions,
        "median_ms": 1e3 * median,
        "best_ms": 1e3 * min(times),
        "acts_per_s": sessions / median,
        "share_of_peak": work / median / peak,
        "phases_ms": phases,
    }


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    phases = ", ".join(f"{name[:-3]} {value:.2f}" for name, value in row["phases_ms"].items())
    return (
        f"{row['form']:8} {row['method']:13} {row['high']:5} {row['sessions']:4} sessions: "
        f"{row['median_ms']:8.2f} ms (best {row['best_ms']:.2f}; {phases}), {row['acts_per_s']:7.1f} acts/s, "
        f"{100 * row['share_of_peak']:.1f} % of the peak"
    )


async def through_the_engine(runtime: TorchRuntime, seconds: float) -> list[Row]:
    """Acts that the engine runs, as the service asks it."""
    rng = np.random.default_rng(0)
    images = list(rng.integers(256, size=(16, 64, 64, 3), dtype=np.uint8))
    rows = []
    for high in ("mcts", "tree"):
        settings = {"method": "hierarchical", "high": high, "actor_proposals": 0, "critic": False}
        measured = {
            sessions: await act_times(
                runtime, images, sessions=sessions, threads=1, seconds=seconds, settings=settings
            )
            for sessions in (1, 32)
        }
        rows += [
            Row(f"hierarchical act ({high}), engine: p50", 1e3 * measured[1], "ms", 8, 4),
            Row(f"acts a second ({high}), 32 sessions, engine", 32 / measured[32], "1/s", 500, 1000, True),
        ]
    return rows
