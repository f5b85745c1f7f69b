"""A run small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thick.configuration import merge
from thick.training.config import TrainConfig
from thick.training.trainer import Trainer

TINY: dict[str, Any] = {
    "learner": "thick-dreamer",
    "env": "minigrid:MiniGrid-DoorKey-5x5-v0+map",
    "updates": 6,
    "batch": 4,
    "length": 8,
    "from_start": 0.5,
    "threads": 1,
    "log_every": 2,
    "checkpoint_every": 3,
    "data": {"policy": "scripted", "prefill_policy": "scripted", "prefill": 400, "streams": 4},
    "model": {
        "stoch": 4,
        "classes": 4,
        "deter": 16,
        "hidden": 16,
        "context": 4,
        "mlp_layers": 1,
        "mlp_units": 16,
        "head_layers": 1,
        "head_units": 16,
        "behaviour": "actor_critic",
        "levels": [{"actions": 3, "hidden": 16, "head_units": 16, "segment_ends": ["gates", "ends"]}],
    },
    "behaviour": {"horizon": 4, "starts": 8, "target_every": 2},
    "evaluation": {"alignment_every": 3, "alignment_steps": 60, "episodes": 2, "max_steps": 4},
    "planner": {"samples": 16, "iterations": 2, "elites": 4, "horizon": 4, "simulations": 4},
}


@pytest.fixture
def tiny() -> TrainConfig:
    return merge(TrainConfig(), TINY)


@pytest.fixture
def trained(tiny: TrainConfig, tmp_path: Path) -> Path:
    trainer = Trainer(tiny, tmp_path / "run")
    trainer.run()
    trainer.close()
    return tmp_path / "run"
