"""The training loop: it learns, logs, saves, and goes on exactly where it stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from thick.configuration import merge
from thick.training.checkpoint import load_checkpoint
from thick.training.config import TrainConfig
from thick.training.trainer import Trainer, resume


def _train(config: TrainConfig, directory: Path, until: int | None = None) -> dict[str, torch.Tensor]:
    trainer = Trainer(config, directory)
    trainer.run(until=until)
    trainer.close()
    return load_checkpoint(directory / "checkpoints")[0]


def _online(config: TrainConfig) -> TrainConfig:
    return merge(
        config,
        {
            "data": {
                "policy": "agent",
                "prefill_policy": "random",
                "prefill": 200,
                "env_steps_per_update": 4.0,
                "exploration": 0.2,
                "planner": {"method": "flat", "samples": 8, "iterations": 1, "elites": 2, "horizon": 3},
            }
        },
    )


@pytest.mark.parametrize("online", [False, True], ids=["offline", "online"])
def test_six_updates_are_the_same_as_three_and_three_after_resuming(
    tiny: TrainConfig, tmp_path: Path, online: bool
) -> None:
    config = _online(tiny) if online else tiny
    whole = _train(config, tmp_path / "whole")
    _train(config, tmp_path / "parts", until=3)
    second = resume(tmp_path / "parts")
    second.run()
    second.close()
    parts = load_checkpoint(tmp_path / "parts" / "checkpoints")[0]
    assert whole.keys() == parts.keys()
    different = [name for name, value in whole.items() if not torch.equal(value, parts[name])]
    assert not different


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


def test_a_folder_that_holds_a_run_is_not_overwritten(tiny: TrainConfig, trained: Path) -> None:
    with pytest.raises(FileExistsError, match="--resume"):
        Trainer(tiny, trained)


def test_learning_lowers_the_loss(tiny: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(
        tiny, updates=60, optimizer=dataclasses.replace(tiny.optimizer, lr=3e-3), log_every=10
    )
    _train(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["world/decoder"] for line in lines if "world/decoder" in line]
    assert losses[-1] < 0.5 * losses[0]


def test_a_world_model_without_a_high_level_trains_too(tiny: TrainConfig, tmp_path: Path) -> None:
    for dynamics in ("crssm", "rssm"):
        changes = {"dynamics": dynamics, "levels": [], "posterior": "observation"}
        tensors = _train(merge(tiny, {"learner": "dreamer", "model": changes}), tmp_path / dynamics)
        assert not any(name.startswith("model.levels.") for name in tensors)


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
