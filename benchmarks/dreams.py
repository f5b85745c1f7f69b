"""Dream steps a second: a served model stepped as an environment, beside the bare model.

    python benchmarks/dreams.py [--models doorkey6 cartpole] [--counts 1 64 1024] [--seconds 2]

The bare model is the native runtime called in this process, with one thread. The service runs in a process of its own
on the same machine, stores every step in SQLite before it answers, and sends what is decoded; its client stands in this
process. Rounds go over all rows, so that whatever else the machine does falls on all alike; medians are shown.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.serving.measure import machine
from clients.demo import service
from thick.runtimes.native.runtime import open_runtime

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["doorkey6", "cartpole"])
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    options = parser.parse_args()
    cells = [(model, count) for model in options.models for count in options.counts]
    with (
        tempfile.TemporaryDirectory() as folder,
        service(
            ROOT / "checkpoints", Path(folder) / "log", store=f"sqlite:///{folder}/sessions.db"
        ) as client,
    ):
        rows = {cell: (bare(*cell), served(client, *cell)) for cell in cells}
        took: dict[tuple[str, int], list[list[float]]] = {cell: [[], []] for cell in cells}
        for _ in range(ROUNDS):
            for cell, steps in rows.items():
                for times, step in zip(took[cell], steps, strict=True):
                    times.append(median_time(step, options.seconds / ROUNDS))
    print(f"\n{machine()}\n")
    print("| model | dreams | bare model | served | served over bare |\n|---|---|---|---|---|")
    for (model, count), times in took.items():
        alone, over = (statistics.median(each) for each in times)
        shown = " | ".join(f"{1e3 * each:.2f} ms, {count / each:,.0f}/s" for each in (alone, over))
        print(f"| {model} | {count:,} | {shown} | {over / alone:.1f} |")


def bare(model: str, count: int) -> Callable[[], object]:
    """A step of dreams in this process."""
    runtime = open_runtime(ROOT / "checkpoints" / model / "1")
    runtime.use_threads(1)
    keys = np.arange(count, dtype=np.int64)
    rows = runtime.dreams.begin(keys, sample=True)
    size = runtime.agent.actions.size
    actions = np.eye(size, dtype=np.float32)[np.arange(count) % size]
    return lambda: runtime.dreams.step(rows, actions, keys=keys, sample=True, include=("observation",))


def served(client: Any, model: str, count: int) -> Callable[[], object]:
    """A step of dreams at the service."""
    dream = client.dream(model, count=count, seed=0)
    size = getattr(dream.action_space, "n", None)
    rng = np.random.default_rng(0)
    if size is None:
        actions = rng.uniform(-1, 1, (count, *dream.action_space.shape)).astype(np.float32)
    else:
        actions = np.arange(count) % size
    return lambda: dream.step(actions, autoreset=True)


def median_time(step: Callable[[], object], seconds: float) -> float:
    """Of a call, as many as fit into some seconds."""
    times = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
