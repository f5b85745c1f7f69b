"""The data of experiment 1: random play in corridors of one and two doors, training layouts only, and what it holds.

    python experiments/data.py --out data/corridor          # some minutes; 200,000 steps
    python experiments/data.py --only-check

What it holds is counted on a sample of the same play, since a data set keeps no events.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from thick.data.collect import TRAINING_SEEDS
from thick.data.dataset import collect
from thick.envs import make

SETTINGS = yaml.safe_load(Path(__file__).with_name("corridor.yaml").read_text())
TASKS = tuple(SETTINGS["env"].replace("corridor-2", f"corridor-{doors}") for doors in (1, 2))
"""in the view of the recipe: data in another one look the same, and nothing can be learned of them"""


def main() -> None:
    """Collect, and count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("data/corridor"))
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=int, default=20_000, help="steps of play that are counted")
    parser.add_argument("--only-check", action="store_true", help="collect nothing")
    arguments = parser.parse_args()
    options = SETTINGS["env_options"]
    if not arguments.only_check:
        _, summary = collect(
            TASKS, policy="random", steps=arguments.steps, streams=8, seed=arguments.seed,
            directory=arguments.out, options=options,
        )  # fmt: skip
        print(json.dumps(summary, indent=1))
    for task in TASKS:
        print(task, json.dumps(contents(task, options, steps=arguments.sample)))
    for doors in (1, 2, 3, 4):
        task = TASKS[0].replace("corridor-1", f"corridor-{doors}")
        print(task, json.dumps(layouts(task, options, resets=1500)))


def contents(task: str, options: dict[str, Any], *, steps: int) -> dict[str, Any]:
    """Of random play: events per 1000 steps, doors unlocked by their number, rewards."""
    env = make(task, **options)
    rng = np.random.default_rng(0)
    events: Counter[str] = Counter()
    rewards: list[float] = []
    episodes, over = 0, True
    for _ in range(steps):
        if over:
            env.reset(seed=TRAINING_SEEDS + episodes)
            episodes, over = episodes + 1, False
            locked = _locked(env)
            continue
        _, reward, terminated, truncated, info = env.step(int(rng.integers(env.action_space.n)))  # type: ignore[attr-defined]
        events.update(info["events"])
        now = _locked(env)
        events.update(
            f"unlocked door {1 + door}" for door in range(len(now)) if locked[door] and not now[door]
        )
        locked = now
        rewards += [float(reward)] if reward else []
        over = terminated or truncated
    env.close()
    return {
        "steps": steps,
        "episodes": episodes,
        "events_per_1000_steps": {
            name: round(1000 * count / steps, 2) for name, count in sorted(events.items())
        },
        "rewards": len(rewards),
        "mean_reward": round(float(np.mean(rewards)), 3) if rewards else None,
    }


def layouts(task: str, options: dict[str, Any], *, resets: int) -> dict[str, int]:
    """Different layouts that resets show in each split, and how many of them are in both."""
    seen: dict[str, set[str]] = {}
    for split in ("train", "test"):
        env = make(task, **{**options, "split": split})
        seen[split] = {env.reset(seed=seed)[1]["layout"] for seed in range(resets)}
        env.close()
    return {split: len(names) for split, names in seen.items()} | {
        "in both": len(seen["train"] & seen["test"])
    }


def _locked(env: Any) -> Sequence[bool]:
    base = env.unwrapped
    return [bool(base._door(door).is_locked) for door in range(base.doors)]


if __name__ == "__main__":
    main()
