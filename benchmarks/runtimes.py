"""The runtimes side by side on the bundled models: time to open one, memory, milliseconds an act.

    python benchmarks/runtimes.py [--backends native onnx torch] [--models doorkey6 cartpole] [--threads 1]

Each cell is a process of its own, so that memory is that of one runtime. An act is a whole plan with the model's own
settings, called as the engine does, from the observation to the action.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
METHODS = ("hierarchical", "flat")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["native", "onnx", "torch"])
    parser.add_argument("--models", nargs="+", default=["doorkey6", "cartpole"])
    parser.add_argument("--threads", type=int, default=1, help="of each act (1)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each cell (3)")
    parser.add_argument("--cell", nargs=2, metavar=("BACKEND", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(measure(*arguments.cell, threads=arguments.threads, seconds=arguments.seconds)))
        return
    print(f"{processor()}, {arguments.threads} thread(s)\n")
    print("| model | backend | opened in | memory | hierarchical act | flat act |\n|---|---|---|---|---|---|")
    for model in arguments.models:
        for backend in arguments.backends:
            options = ["--threads", str(arguments.threads), "--seconds", str(arguments.seconds)]
            command = [sys.executable, __file__, *options, "--cell", backend, model]
            row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            acts = " | ".join(f"{row[method]:.0f} ms" for method in METHODS)
            print(
                f"| {model} | {backend} | {row['open_s']:.2f} s | {row['memory_mb']:.0f} MB | {acts} |",
                flush=True,
            )


def measure(backend: str, model: str, *, threads: int, seconds: float) -> dict[str, float]:
    """One cell: seconds to import and open, resident megabytes then, and the median act of each method in ms."""
    began = time.perf_counter()
    from thick.runtimes.backends import open_runtime

    runtime: Any = open_runtime(CHECKPOINTS / model / "1", backend=backend)
    row = {"open_s": time.perf_counter() - began, "memory_mb": resident_mb()}
    runtime.use_threads(threads)
    space = runtime.agent.observation_space
    space.seed(0)
    for method in METHODS:
        settings = runtime.settings({"method": method, "seed": None})
        took, end = [], time.perf_counter() + seconds
        while len(took) < 4 or time.perf_counter() < end:
            seen = space.sample()
            batch = {k: v[None] for k, v in seen.items()} if isinstance(seen, dict) else seen[None]
            keys = np.array([len(took)])
            began = time.perf_counter()
            state = runtime.observe(runtime.initial(1), batch, is_first=np.array([True]), keys=keys)
            plan = runtime.plan(state, settings, keys=keys)
            while not plan.done:
                plan.step()
            runtime.decode_action(plan.result().action)
            took.append(time.perf_counter() - began)
        row[method] = 1000 * median(took[2:])  # the first prepare what comes after
    return row


def resident_mb() -> float:
    """Memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def processor() -> str:
    """Its name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


if __name__ == "__main__":
    main()
