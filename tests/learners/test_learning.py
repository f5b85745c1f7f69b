"""Dreamer learns a task so small that it must succeed. What else was tried stands in docs/research-log.md."""

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


def mean_return(agent: Any, task: str) -> float:
    settings = None if agent is None else agent.planner
    played = evaluate_agent(agent, f"{TOYS}:{task}", settings=settings, episodes=16, seed=50, parallel=16)
    return float(played["mean_return"])


@pytest.mark.slow
def test_dreamer_moves_a_point_far_better_than_random_actions(tmp_path: Path) -> None:
    config = merge(load_config("learners/dreamer"), SMALL)
    config = merge(config, {"env": f"{TOYS}:Point", "seed": 0, "model": {"discount_head": False}})
    trainer = Trainer(config, tmp_path / "run")
    trainer.run()
    trainer.close()
    assert mean_return(None, "Point") < 3.0
    assert mean_return(trainer.learner.agent(config.planner), "Point") > 6.0
