"""Runs small enough for a test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from thick.configuration import merge
from thick.envs import register
from thick.runtimes.torch import traced
from thick.training.checkpoint import load_checkpoint
from thick.training.config import TrainConfig
from thick.training.trainer import Trainer

register("walk", "tests.training.walk")

SMALL: dict[str, Any] = {
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
}
PLANNER: dict[str, Any] = {"samples": 16, "iterations": 2, "elites": 4, "horizon": 4, "simulations": 4}

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
    "model": SMALL,
    "behaviour": {"horizon": 4, "starts": 8, "target_every": 2},
    "evaluation": {"alignment_every": 3, "alignment_steps": 60, "episodes": 2, "max_steps": 4},
    "planner": PLANNER,
}

WALK: dict[str, Any] = {
    "learner": "thick-dreamer",
    "env": "walk:steps",
    "updates": 6,
    "batch": 2,
    "length": 4,
    "threads": 1,
    "log_every": 2,
    "checkpoint_every": 2,
    "data": {"prefill": 24, "streams": 2},
    "model": SMALL,
    "behaviour": {"horizon": 2, "starts": 4, "target_every": 2},
    "evaluation": {"alignment_every": 0, "alignment_steps": 0, "episodes": 1, "max_steps": 2},
    "planner": PLANNER,
}

ONLINE: dict[str, Any] = {
    "policy": "agent",
    "env_steps_per_update": 3.0,
    "exploration": 0.2,
    "planner": {"method": "flat", "samples": 8, "iterations": 1, "elites": 2, "horizon": 2},
}


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace has the same bits as what it was made of, and making one takes longer than these runs."""
    monkeypatch.setattr(traced, "SEEN", 1_000_000)


@pytest.fixture
def tiny() -> TrainConfig:
    """Offline, in MiniGrid."""
    return merge(TrainConfig(), TINY)


@pytest.fixture(scope="session")
def walk() -> TrainConfig:
    """Offline, on the line."""
    return merge(TrainConfig(), WALK)


@pytest.fixture(scope="session")
def online(walk: TrainConfig) -> TrainConfig:
    """Collecting while it learns, on the line."""
    return merge(walk, {"data": ONLINE})


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that nobody changes."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    finish(Trainer(merge(TrainConfig(), TINY), folder))
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))


def finish(trainer: Trainer, until: int | None = None) -> bool:
    """Run and close; whether the run came to its end."""
    try:
        return trainer.run(until=until)
    finally:
        trainer.close()


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """Everything in the run's latest checkpoint."""
    return load_checkpoint(run / "checkpoints")[0]


def differences(run: Path, other: Path) -> list[str]:
    """Names of what differs between the latest checkpoints of two runs."""
    one, two = tensors(run), tensors(other)
    return [name for name in one.keys() | two.keys() if not _equal(one.get(name), two.get(name))]


def _equal(one: torch.Tensor | None, two: torch.Tensor | None) -> bool:
    return one is not None and two is not None and torch.equal(one, two)


def lines(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without what depends on the clock."""
    clock = ("time", "hours", "updates_per_second")
    return [
        {name: value for name, value in json.loads(line).items() if name not in clock}
        for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
