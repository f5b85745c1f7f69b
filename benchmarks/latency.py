"""What a slow network costs: success and actions in time by the latency of answers, with and without a plan's tail, and
with planning ahead between acts.

    python benchmarks/latency.py [--models doorkey6 cartpole] [--hz 10] [--latencies 0 100 200 300 500] [--episodes 20]

Serves the bundled models itself and drives their environment at a fixed rate (``thick drive --hz``): at each step
there must be an action, whether or not the answer came. Without the tail, the last action is repeated instead of going
on with the plan. A step that its answer did not reach in time is a missed deadline: ``tail`` and ``held`` say what was
done.
"""

from __future__ import annotations

import argparse
import itertools
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

WAYS = {
    "tail": (8, {}),
    "no tail": (0, {}),
    "tail, ponders": (8, {"ponder": True}),
    "no tail, ponders": (0, {"ponder": True}),
}
"""actions of a plan that are used, and settings of the planner"""
ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Play, print, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["doorkey6"], metavar="NAME")
    parser.add_argument("--hz", type=float, default=10.0, help="steps a second (10)")
    parser.add_argument("--latencies", type=float, nargs="+", default=[0, 100, 200, 300, 500], metavar="MS")
    parser.add_argument(
        "--jitter", type=float, default=0.0, metavar="MS", help="latency varies by that, up and down (0)"
    )
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--max-steps", type=int, default=150)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{given.hz:g} steps a second, {given.episodes} episodes a row; {machine()}")
    print("| model | latency, ms | | success | 95 % | return | steps | in time | tail | held |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as folder,
        service(ROOT / "checkpoints", Path(folder) / "serve.log") as client,
    ):
        for model, way, latency in itertools.product(given.models, given.ways, given.latencies):
            tail, planner = WAYS[way]
            task = Task.of(
                client, model, env_id=None, planner=planner, max_steps=given.max_steps,
                pace=Pace(given.hz, latency / 1e3, given.jitter / 1e3, tail),
            )  # fmt: skip
            episodes = drive(task, episodes=given.episodes, seed=given.seed, parallel=given.parallel)
            row = {"model": model, "latency_ms": latency, "way": way, **summarise(episodes)}
            rows.append(row)
            print(line(row), flush=True)
    print(machine())
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
    latency, mean = f"{row['latency_ms']:g}", f"{row['mean_return']:.3g}"
    cells = (row["model"], latency, row["way"], success, interval, mean, f"{steps:.0f}", *shares)
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
