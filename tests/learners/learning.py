"""Runs of the toys that each learner must learn, of weights, batches and searches that suffice for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thick.configuration import merge
from thick.training.config import load_config
from thick.training.evaluate import evaluate_agent
from thick.training.trainer import Trainer

LONGEST_S = 1800
"""a run takes one or two minutes of a core, and may have a part of one"""
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
        # Six steps are enough. At 0.99 a wasted step costs 1 %, which an actor of some hundred updates cannot see.
        "discount": 0.9,
        "loss": {"decoder": 5.0, "reward": 5.0, "coarse_decoder": 5.0, "coarse_reward": 5.0},
        "levels": {"each": {"actions": 3, "hidden": 48, "head_units": 48, "segment_ends": ["gates", "ends"]}},
        "goals": {"every": 4, "codes": 4, "classes": 4},
    },
    "optimizer": {"lr": 3e-3, "level_lr": 3e-3},
    "behaviour": {
        "horizon": 8,
        "starts": 96,
        "target_rate": 0.02,
        "actor_lr": 2e-3,
        "critic_lr": 3e-3,
        "entropy": 1e-2,
        "start": 60,
    },
    "ensemble": {"members": 4, "layers": 1, "units": 48, "lr": 3e-3},
    "director": {
        "starts": 96,
        "target_every": 20,
        "actor_lr": 2e-3,
        "critic_lr": 3e-3,
        "goal_lr": 3e-3,
        "goal_kl": 0.1,
        "manager_entropy": 3e-2,
        "worker_entropy": 3e-2,
        "start": 60,
    },
    "evaluation": {"alignment_every": 0, "alignment_steps": 0},
    "planner": {"samples": 60, "iterations": 2, "elites": 8, "horizon": 8, "simulations": 15},
}


def learned(learner: str, task: str, seed: int, folder: Path, **changes: Any) -> float:
    """Mean return of 16 episodes after learning."""
    config = merge(load_config(f"learners/{learner}"), SMALL)
    changes = {"env": f"{TOYS}:{task}", "seed": seed, **changes}
    trainer = Trainer(merge(config, changes), folder / "run")
    try:
        trainer.run()
        return mean_return(trainer.learner.agent(config.planner), task)
    finally:
        trainer.close()


def mean_return(agent: Any, task: str) -> float:
    settings = None if agent is None else agent.planner
    played = evaluate_agent(agent, f"{TOYS}:{task}", settings=settings, episodes=16, seed=50, parallel=16)
    return float(played["mean_return"])
