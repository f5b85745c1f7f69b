"""Rows of the committed results, made again from scratch in minutes, against their intervals (`make results-check`).

    python experiments/check.py                  # all of them; exit code 1 where one does not
    python experiments/check.py random trained   # these

`random`: the episodes of random play behind one door (experiments/results/horizon.csv), played again. `trained`: a run
of experiments/options.yaml, trained and evaluated again. `bundled`: checkpoints/doorkey6 on layouts that
nobody chose anything by, against what its manifest says.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from thick.runtimes.native.agents import load_agent
from thick.statistics import wilson
from thick.sweeps.definition import read_sweep
from thick.training.evaluate import evaluate_agent
from thick.training.trainer import Trainer

HERE = Path(__file__).resolve().parent
ENTRY = HERE.parent / "checkpoints" / "doorkey6" / "1"
UNSEEN = 700_000
"""seed of the first layout of the bundled model's check"""
STUDENT = 4.30
"""97.5 % quantile of Student's distribution for three seeds"""


class Found(NamedTuple):
    """One row, made again."""

    what: str
    value: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the new value lies in the old one's interval."""
        return self.low <= self.value <= self.high


def random() -> Found:
    """Success of random play in the first room of a corridor with one door, with the row's Wilson interval."""
    with (HERE / "results" / "horizon.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["planner"] == "random"]
    row = next(
        row
        for row in rows
        if "corridor-1+" in row["task"] and "exploring_starts" not in json.loads(row["env_options"])
    )
    found = evaluate_agent(
        None,
        row["task"],
        settings=None,
        episodes=int(row["episodes"]),
        seed=int(row["first_seed"]),
        options=json.loads(row["env_options"]),
    )
    rate = wilson(int(row["successes"]), int(row["episodes"]))
    return Found("random play, one door: success", found["success_rate"], *rate)


def trained() -> Found:
    """Mean return of all that a THICK Dreamer collected while it learned, with the row's interval for one more run."""
    with (HERE / "options.csv").open(newline="") as file:
        values = [float(row["learning"]) for row in csv.DictReader(file) if row["option"] == "paper"]
    plan = read_sweep(HERE / "options.yaml")
    config = next(run.config for run in plan.runs if run.name == "paper-seed0")
    assert config is not None
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder) / "run")
        try:
            trainer.run()
        finally:
            trainer.close()
        lines = [
            json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
        ]
    value = statistics.mean(line["collected"]["mean_return"] for line in lines if "collected" in line)
    mean = statistics.mean(values)
    half = STUDENT * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
    return Found("THICK Dreamer on the chain: return while learning", value, mean - half, mean + half)


def bundled(episodes: int = 60) -> Found:
    """Success of the bundled model's own planner on unseen layouts, with where its manifest lets that lie."""
    agent = load_agent(ENTRY)
    assert agent.manifest is not None
    stated = agent.manifest.provenance["results"]
    rate, count = stated["methods"]["hierarchical"]["success_rate"], stated["episodes"]
    found = evaluate_agent(
        agent,
        agent.manifest.task,
        settings=agent.settings({}),
        episodes=episodes,
        seed=UNSEEN,
        max_steps=stated["max_steps"] or 0,
    )
    low, high = prediction(round(rate * count), count, episodes)
    return Found(f"doorkey6, {episodes} unseen layouts: success", found["success_rate"], low, high)


def prediction(successes: int, trials: int, more: int) -> tuple[float, float]:
    """Where the rate of ``more`` further trials lies with 95 %, about: Wilson's interval, wider by their own spread."""
    rate = successes / trials
    low, high = wilson(successes, trials)
    own = 1.96 * math.sqrt(max(rate * (1 - rate), 1 / more) / more)
    return max(0.0, rate - math.hypot(rate - low, own)), min(1.0, rate + math.hypot(high - rate, own))


CHECKS: dict[str, Callable[[], Found]] = {"random": random, "trained": trained, "bundled": bundled}


def main() -> int:
    """Make the rows again, and say which of them hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("check", nargs="*", help=f"some of {', '.join(CHECKS)} (default: all)")
    options = parser.parse_args()
    for name in options.check:
        if name not in CHECKS:
            parser.error(f"check: expected some of {', '.join(CHECKS)}, got {name!r}")
    holds = True
    for name in options.check or CHECKS:
        began = time.perf_counter()
        found = CHECKS[name]()
        holds = holds and found.holds
        word = "in" if found.holds else "NOT in"
        print(
            f"{found.what} {found.value:.3f}, {word} {found.low:.3f} to {found.high:.3f} "
            f"({time.perf_counter() - began:.0f} s)",
            flush=True,
        )
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
