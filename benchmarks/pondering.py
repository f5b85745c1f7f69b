"""What planning ahead between acts is worth: return and latency by the time that an environment thinks.

    python benchmarks/pondering.py [--model doorkey6] [--think-ms 10 50 200] [--episodes 40]

One session at a time acts over HTTP in its environment, with a small budget; between two acts passes the think time,
in which the service plans ahead, or does not. The checkpoint's own budget, without planning ahead, is shown beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.serving.measure import machine
from clients import PlanningClient
from clients.demo import service
from thick.envs import make
from thick.statistics import wilson

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"samples": 50, "iterations": 1, "elites": 5, "simulations": 10}


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="doorkey6")
    parser.add_argument("--think-ms", type=float, nargs="+", default=[10.0, 50.0, 200.0])
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--max-steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=50_000)
    options = parser.parse_args()
    rows: list[tuple[str, float, dict[str, Any]]] = [("own budget", 0.0, {}), ("small budget", 0.0, SMALL)]
    for think in options.think_ms:
        rows.append(("small, plans ahead", think, {**SMALL, "ponder": True, "ponder_ms": think}))
    print(f"{options.model}, {options.episodes} episodes of at most {options.max_steps} steps; {machine()}")
    print("| | think time, ms | success | 95 % | mean return | mean steps | act p50, ms | act p95 |")
    print("|---|---|---|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as folder,
        service(ROOT / "checkpoints", Path(folder) / "log") as client,
    ):
        for name, think, planner in rows:
            print(row(name, think, played(client, think, planner, options)), flush=True)


def played(
    client: PlanningClient, think: float, planner: dict[str, Any], options: argparse.Namespace
) -> dict[str, list[float]]:
    """What came of the episodes."""
    model = client.model(options.model)
    assert model.task is not None
    env = make(model.task, **model.env_options)
    found: dict[str, list[float]] = {"return": [], "steps": [], "success": [], "ms": []}
    for episode in range(options.episodes):
        observation, _ = env.reset(seed=options.seed + episode)
        total, steps, over, won = 0.0, 0, False, False
        with client.session(options.model, seed=episode, planner=planner) as session:
            while not over and steps < options.max_steps:
                began = time.perf_counter()
                action = session.act(observation)
                found["ms"].append(1e3 * (time.perf_counter() - began))
                observation, reward, terminated, truncated, info = env.step(action)
                total, steps, over = total + float(reward), steps + 1, terminated or truncated
                won = won or bool(info.get("success", reward > 0))
                if think:
                    time.sleep(think / 1e3)
        found["return"].append(total)
        found["steps"].append(steps)
        found["success"].append(float(won))
    env.close()
    return found


def row(name: str, think: float, found: dict[str, list[float]]) -> str:
    """A line of the table."""
    wins, count = int(sum(found["success"])), len(found["success"])
    low, high = wilson(wins, count)
    times = sorted(found["ms"])
    return (
        f"| {name} | {think:g} | {100 * wins / count:.0f} % | {100 * low:.0f}–{100 * high:.0f} "
        f"| {statistics.mean(found['return']):.2f} | {statistics.mean(found['steps']):.1f} "
        f"| {statistics.median(times):.1f} | {times[int(0.95 * (len(times) - 1))]:.1f} |"
    )


if __name__ == "__main__":
    main()
