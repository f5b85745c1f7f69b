"""What a slow network costs: success and actions in time by the latency of answers, with and without a plan's tail.

    python benchmarks/latency.py [--model doorkey6] [--hz 10] [--latencies 0 100 200 300 500] [--episodes 20]

Serves the bundled models itself and drives their environment at a fixed rate (``thick drive --hz``): at each step there
must be an action, whether or not the answer came. ``tail 0`` repeats the last action instead of going on with the plan.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.serving.measure import machine
from clients.demo import service
from clients.drive import drive
from clients.episodes import Pace, Task, summarise
from thick.statistics import wilson

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Play, print, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="doorkey6")
    parser.add_argument("--hz", type=float, default=10.0, help="steps a second (10)")
    parser.add_argument("--latencies", type=float, nargs="+", default=[0, 100, 200, 300, 500], metavar="MS")
    parser.add_argument("--tails", type=int, nargs="+", default=[8, 0], metavar="N")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--max-steps", type=int, default=150)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{given.model}, {given.hz:g} steps a second, {given.episodes} episodes a row; {machine()}")
    print("| latency, ms | tail | success | 95 % | return | steps | in time | tail | held |")
    print("|---|---|---|---|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as folder,
        service(ROOT / "checkpoints", Path(folder) / "serve.log") as client,
    ):
        for tail in given.tails:
            for latency in given.latencies:
                task = Task.of(
                    client, given.model, env_id=None, planner={}, max_steps=given.max_steps,
                    pace=Pace(given.hz, latency / 1e3, 0.0, tail),
                )  # fmt: skip
                episodes = drive(task, episodes=given.episodes, seed=given.seed, parallel=given.parallel)
                row = {"latency_ms": latency, "tail": tail, **summarise(episodes)}
                rows.append(row)
                print(line(row), flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    episodes, sources = row["episodes"], row["sources"]
    ticks = max(1, sum(sources[name] for name in ("plan", "tail", "hold")))
    success, interval = "–", "–"
    if row["success_rate"] is not None:
        solved = sum(bool(each["success"]) for each in episodes)
        low, high = wilson(solved, len(episodes))
        success, interval = f"{100 * row['success_rate']:.0f} %", f"{100 * low:.0f}–{100 * high:.0f}"
    steps = sum(each["length"] for each in episodes) / len(episodes)
    shares = (f"{100 * sources[name] / ticks:.0f} %" for name in ("plan", "tail", "hold"))
    latency, tail, mean = f"{row['latency_ms']:g}", str(row["tail"]), f"{row['mean_return']:.3g}"
    return "| " + " | ".join((latency, tail, success, interval, mean, f"{steps:.0f}", *shares)) + " |"


if __name__ == "__main__":
    sys.exit(main())
