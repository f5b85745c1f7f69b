"""Success against milliseconds: every search of the bundled model, the same episodes, and what an act takes over HTTP.

    python benchmarks/searches.py --play [--episodes 200]     # plays what is not in the CSV yet; minutes a row
    python benchmarks/searches.py --time                      # p50 of an act over HTTP for each row, some seconds each
    python benchmarks/searches.py                             # table and picture from the committed CSV

Episodes are paired: row by row the same seeds, and so the same layouts. Whether a cheaper search is as good as the
checkpoint's own is said by the difference in success within pairs, with an interval by bootstrap over episodes.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.serving.measure import machine
from clients.demo import service
from thick.envs import make
from thick.files import write_atomically
from thick.statistics import wilson

ROOT = Path(__file__).resolve().parents[1]
CSV = Path(__file__).with_name("results") / "searches.csv"
MODEL, TASK = "doorkey6", "minigrid:MiniGrid-DoorKey-6x6-v0+map"
FIELDS = ("name", "settings", "first_seed", "episodes", "successes", "steps", "http_ms", "processor")
SEARCHES: dict[str, dict[str, Any]] = {
    "own": {},
    "100 × 3": {"samples": 100, "elites": 10},
    "100 × 1": {"samples": 100, "elites": 10, "iterations": 1},
    "50 × 1": {"samples": 50, "elites": 5, "iterations": 1},
    "25 × 1": {"samples": 25, "elites": 4, "iterations": 1},
    "50 × 1, 10 simulations": {"samples": 50, "elites": 5, "iterations": 1, "simulations": 10},
    "own, plan kept while it holds": {"hold": 0.1},
    "high gumbel": {"high": "gumbel"},
    "100 × 1, high gumbel": {"samples": 100, "elites": 10, "iterations": 1, "high": "gumbel"},
    "50 × 2, high gumbel": {"samples": 50, "elites": 5, "iterations": 2, "high": "gumbel"},
    "50 × 1, high gumbel": {"samples": 50, "elites": 5, "iterations": 1, "high": "gumbel"},
    "25 × 1, high gumbel": {"samples": 25, "elites": 4, "iterations": 1, "high": "gumbel"},
    "100 × 1, high gumbel, plan kept while it holds": {
        "samples": 100,
        "elites": 10,
        "iterations": 1,
        "high": "gumbel",
        "hold": 0.1,
    },
    "high tree": {"high": "tree", "depth": 3},
    "high prior": {"high": "prior"},
    "high random": {"high": "random"},
}
"""what differs from the checkpoint's own settings"""
CHEAPEST = "100 × 1, high gumbel"
"""of those that are not worse, by the committed rows"""


def main() -> None:
    """Play, time, or print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--play", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=60_000)
    parser.add_argument("--max-steps", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    rows = read()
    if options.play:
        play(rows, options)
    if options.time:
        clock(rows, options)
    if not (options.play or options.time):
        show(rows)


def play(rows: dict[str, dict[str, str]], options: argparse.Namespace) -> None:
    """Whole episodes by each search that has none yet."""
    from thick.runtimes.native.agents import load_agent
    from thick.training.evaluate import evaluate_agent

    agent = load_agent(ROOT / "checkpoints" / MODEL / "1")
    for name, changes in SEARCHES.items():
        key = json.dumps(changes, sort_keys=True)
        if name in rows and rows[name]["settings"] == key and int(rows[name]["episodes"]) >= options.episodes:
            continue
        found = evaluate_agent(
            agent,
            TASK,
            settings=agent.settings(changes),
            episodes=options.episodes,
            seed=options.first_seed,
            max_steps=options.max_steps,
        )["episodes"]
        steps = [each["length"] if each["success"] else -each["length"] for each in found]
        rows[name] = {
            "name": name,
            "settings": key,
            "first_seed": str(options.first_seed),
            "episodes": str(options.episodes),
            "successes": str(sum(step > 0 for step in steps)),
            "steps": " ".join(map(str, steps)),
            "http_ms": "",
            "processor": "",
        }
        write(rows)
        print(name, rows[name]["successes"], "of", options.episodes, flush=True)


def clock(rows: dict[str, dict[str, str]], options: argparse.Namespace) -> None:
    """What an act of each search takes over HTTP, one session at a time; rounds go over all of them."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    env = make(TASK)
    seen = [env.reset(seed=seed)[0] for seed in range(8)]
    env.close()
    with (
        tempfile.TemporaryDirectory() as folder,
        service(ROOT / "checkpoints", Path(folder) / "log") as client,
    ):
        for _ in range(3):
            for name, row in rows.items():
                with client.session(MODEL, seed=1, planner=json.loads(row["settings"])) as session:
                    until = time.perf_counter() + options.seconds / 3
                    step = 0
                    while step < 4 or time.perf_counter() < until:
                        began = time.perf_counter()
                        session.act(seen[step // 8 % 8])
                        times[name].append(1e3 * (time.perf_counter() - began))
                        step += 1
    for name, row in rows.items():
        row |= {"http_ms": f"{statistics.median(times[name]):.2f}", "processor": machine().split(", load")[0]}
    write(rows)
    show(rows)


def http_ms(seconds: float, settings: Mapping[str, Any]) -> float:
    """The p50 of an act with planner settings over HTTP, ms."""
    times: list[float] = []
    env = make(TASK)
    seen = [env.reset(seed=seed)[0] for seed in range(8)]
    env.close()
    with (
        tempfile.TemporaryDirectory() as folder,
        service(ROOT / "checkpoints", Path(folder) / "log") as client,
        client.session(MODEL, seed=1, planner=dict(settings)) as session,
    ):
        until = time.perf_counter() + seconds
        while len(times) < 10 or time.perf_counter() < until:
            began = time.perf_counter()
            session.act(seen[len(times) // 8 % 8])
            times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[2:])


def show(rows: dict[str, dict[str, str]]) -> None:
    """The table, and the picture of it."""
    own = lengths(rows["own"])
    print(
        "| search | act over HTTP, p50 | success | 95 % | against its own, points | steps where both succeed |"
    )
    print("|---|---|---|---|---|---|")
    for name, row in sorted(rows.items(), key=lambda item: float(item[1]["http_ms"] or "inf")):
        steps = lengths(row)
        wins = int((steps > 0).sum())
        low, high = wilson(wins, len(steps))
        less, more = paired((steps > 0).astype(float) - (own > 0))
        both = (steps > 0) & (own > 0)
        apart = (steps[both] - own[both]).mean() if both.any() else float("nan")
        gained = 100 * ((steps > 0).mean() - (own > 0).mean())
        print(
            f"| {name} | {row['http_ms'] or '–'} ms | {100 * wins / len(steps):.1f} % "
            f"| {100 * low:.0f}–{100 * high:.0f} | {gained:+.1f} ({100 * less:+.1f} to {100 * more:+.1f}) "
            f"| {apart:+.1f} |"
        )
    if all(row["http_ms"] for row in rows.values()):
        draw(rows)


def paired(differences: np.ndarray) -> tuple[float, float]:
    """95 % of the means of resampled pairs."""
    rng = np.random.default_rng(0)
    means = rng.choice(differences, (4000, len(differences))).mean(1)
    return tuple(np.quantile(means, (0.025, 0.975)))  # type: ignore[return-value]


def lengths(row: dict[str, str]) -> np.ndarray:
    """Steps of each episode, negative where it failed."""
    return np.array([int(step) for step in row["steps"].split()])


def draw(rows: dict[str, dict[str, str]]) -> None:
    """Success against milliseconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 4.2), layout="constrained")
    for name, row in rows.items():
        wins, count, ms = int(row["successes"]), int(row["episodes"]), float(row["http_ms"])
        low, high = wilson(wins, count)
        colour = "#b4560f" if name == "own" else "#2f63c6"
        axes.errorbar(
            ms,
            100 * wins / count,
            [[100 * (wins / count - low)], [100 * (high - wins / count)]],
            fmt="o",
            color=colour,
        )
        axes.annotate(name, (ms, 100 * wins / count), xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set(
        xscale="log",
        xlabel="act over HTTP, p50, ms",
        ylabel="success, % (95 % intervals)",
        title=f"{MODEL}: every search",
    )
    axes.grid(alpha=0.3)
    figure.savefig(ROOT / "docs" / "images" / "searches.png", dpi=110)


def read() -> dict[str, dict[str, str]]:
    """Rows by name."""
    if not CSV.is_file():
        return {}
    with CSV.open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def write(rows: dict[str, dict[str, str]]) -> None:
    """All rows, whole or not at all."""
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    CSV.parent.mkdir(exist_ok=True)
    write_atomically(CSV, text.getvalue().encode())


if __name__ == "__main__":
    main()
