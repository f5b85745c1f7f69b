"""A configuration for a task that no preset names: a small model and a modest planner, fitted to the spaces.

What kind of search fits the actions, and which encoder and decoder an observation takes, follows from the spaces; here
is decided how large they are, and where the data comes from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from thick.configuration import merge
from thick.envs import check, make
from thick.envs.kinds import kinds_of
from thick.training.config import TrainConfig, load_config

BASE = ("learners/thick-planet", "sizes/small")
"""presets that it begins with"""
_CHANGES: dict[str, Any] = {
    "data": {
        "prefill": 5000,
        "streams": 4,
        "capacity": 200_000,
        "env_steps_per_update": 1.0,
        "planner": {"method": "flat", "samples": 100, "iterations": 3, "elites": 10, "horizon": 8},
    },
    "model": {"clip_rewards": "none"},
    "evaluation": {"alignment_steps": 0},
}


def fitted(config: TrainConfig) -> TrainConfig:
    """Defaults for the configuration's task.

    Args:
        config: names the task (``env``, ``env_options``); its other fields are replaced.

    Raises:
        ValueError, thick.envs.MissingPackageError: the task cannot be used; in one line.
    """
    check(config.env, **config.env_options)
    env = make(config.env, **config.env_options)
    kinds = set(kinds_of(env.observation_space).values())
    env.close()
    config = merge(load_config(*BASE, base=config), _CHANGES)
    if "grid" in kinds:  # many symbols take a wider layer
        config = merge(config, {"model": {"mlp_units": 256}})
    return merge(config, {"name": model_name(config.env), "description": f"Trained on {config.env}."})


def model_name(env_id: str) -> str:
    """A name for a model of a task: `own_env.py:Corridor` -> `corridor`, `gym:CartPole-v1` -> `cartpole-v1`."""
    place, _, task = env_id.rpartition(":")
    name = re.sub(r"[^a-z0-9._-]+", "-", (task or Path(place).stem).lower()).strip("-._")
    return name[:100] or "model"
