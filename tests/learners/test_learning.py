"""Dreamer learns: on tasks so small that it must succeed, it is far better than random actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thick.configuration import merge
from thick.training.config import load_config
from thick.training.evaluate import evaluate_agent
from thick.training.trainer import Trainer

TOYS = Path(__file__).parent / "toys.py"

SMALL: dict[str, Any] = {
    "updates": 400,
    "batch": 16,
    "length": 16,
    "threads": 1,
    "log_every": 100,
    "checkpoint_every": 1000,
    "data": {"prefill": 1600, "streams": 8, "env_steps_per_update": 2.0},
    "model": {
        "stoch": 6,
        "classes": 6,
        "deter": 32,
        "hidden": 32,
        "context": 4,
        "mlp_layers": 1,
        "mlp_units": 48,
        "head_layers": 1,
        "head_units": 48,
        "clip_rewards": "none",
        "loss": {"decoder": 5.0, "reward": 5.0, "coarse_decoder": 5.0, "coarse_reward": 5.0},
        "levels": {"each": {"actions": 3, "hidden": 48, "head_units": 48, "segment_ends": ["gates", "ends"]}},
    },
    "optimizer": {"lr": 3e-3, "level_lr": 3e-3},
    "behaviour": {
        "horizon": 8,
        "starts": 96,
        "target_every": 20,
        "actor_lr": 2e-3,
        "critic_lr": 3e-3,
        "entropy": 3e-3,
        "start": 60,
    },
    "evaluation": {"alignment_every": 0, "alignment_steps": 0},
    "planner": {"samples": 60, "iterations": 2, "elites": 8, "horizon": 8, "simulations": 15},
}
# (task, fields of the task, return of random actions at most, return of a learner at least)
CHAIN = ("Chain", {"model": {"discount_head": True}}, 0.8, 1.1)
POINT = ("Point", {"model": {"discount_head": False}}, 3.0, 6.0)


def mean_return(agent: Any, task: str) -> float:
    settings = None if agent is None else agent.planner
    played = evaluate_agent(agent, f"{TOYS}:{task}", settings=settings, episodes=16, seed=50, parallel=16)
    return float(played["mean_return"])


CASES = [
    pytest.param("dreamer", CHAIN, 0, id="dreamer-chain"),
    pytest.param("dreamer", POINT, 0, id="dreamer-point"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("learner", "task", "seed"), CASES)
def test_a_learner_is_far_better_than_random_actions(
    learner: str, task: tuple[str, dict[str, Any], float, float], seed: int, tmp_path: Path
) -> None:
    name, fields, random_at_most, at_least = task
    config = merge(load_config(f"learners/{learner}"), SMALL)
    config = merge(config, {**fields, "env": f"{TOYS}:{name}", "seed": seed})
    trainer = Trainer(config, tmp_path / "run")
    trainer.run()
    trainer.close()
    assert mean_return(None, name) < random_at_most
    learned = mean_return(trainer.learner.agent(config.planner), name)
    assert learned > at_least
