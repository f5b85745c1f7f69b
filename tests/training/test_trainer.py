"""The training loop: it learns, logs, saves, and goes on exactly where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import differences, finish, lines, tensors
from thick.configuration import merge
from thick.training.checkpoint import load_checkpoint
from thick.training.config import TrainConfig
from thick.training.trainer import Trainer, resume


@pytest.mark.parametrize("kind", ["offline", "online"])
def test_six_updates_are_the_same_as_four_and_two_after_resuming(
    walk: TrainConfig, online: TrainConfig, tmp_path: Path, kind: str
) -> None:
    config = online if kind == "online" else walk
    finish(Trainer(config, tmp_path / "whole"))
    finish(Trainer(config, tmp_path / "parts"), until=4)
    assert differences(tmp_path / "whole", tmp_path / "parts")
    finish(resume(tmp_path / "parts"))
    assert not differences(tmp_path / "whole", tmp_path / "parts")


def test_a_run_writes_losses_gates_and_pictures(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    scalars = {name for line in lines for name in line}
    assert {
        "world/decoder",
        "world/coarse_kl",
        "world/context_change",
        "level1/elapsed",
        "behaviour/policy",
    } <= scalars
    gates = next(line["gates"] for line in lines if "gates" in line)
    assert 0 <= gates["context_change"] <= 1
    assert list((trained / "tensorboard").iterdir())


@pytest.mark.slow
def test_learning_lowers_the_loss(walk: TrainConfig, tmp_path: Path) -> None:
    config = merge(walk, {"updates": 60, "batch": 8, "optimizer": {"lr": 1e-2}, "log_every": 10})
    finish(Trainer(config, tmp_path / "run"))
    losses = [line["world/decoder"] for line in lines(tmp_path / "run") if "world/decoder" in line]
    # What no model can do better than: the constant of a normal distribution, three numbers an observation.
    constant = 1.5 * np.log(2 * np.pi)
    assert losses[-1] - constant < 0.5 * (losses[0] - constant)


def test_a_world_model_without_a_high_level_trains_too(walk: TrainConfig, tmp_path: Path) -> None:
    for dynamics in ("crssm", "rssm"):
        changes = {"dynamics": dynamics, "levels": [], "posterior": "observation"}
        finish(Trainer(merge(walk, {"learner": "dreamer", "model": changes}), tmp_path / dynamics))
        assert not any(name.startswith("model.levels.") for name in tensors(tmp_path / dynamics))


def test_a_run_can_start_from_the_weights_of_another(
    tiny: TrainConfig, trained: Path, tmp_path: Path
) -> None:
    before = load_checkpoint(trained / "checkpoints")[0]
    config = merge(tiny, {"init": str(trained)})
    trainer = Trainer(config, tmp_path / "second")
    for name, value in trainer.learner.model.state_dict().items():
        assert torch.equal(value, before[f"model.{name}"]), name
    trainer.close()
    with pytest.raises(ValueError, match="other sizes"):
        Trainer(merge(config, {"model": {"stoch": 5}}), tmp_path / "third")
