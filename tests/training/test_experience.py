"""What a run learns from: given data stay as they are, episodes go on across checkpoints and processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import differences, finish, lines
from thick.configuration import merge
from thick.data.dataset import collect
from thick.training.config import TrainConfig
from thick.training.trainer import Trainer, resume


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with another number of streams than the runs have."""
    collect("walk:steps", policy="random", steps=60, streams=3, seed=9, directory=tmp_path / "data")
    return tmp_path / "data"


def test_a_given_data_set_is_never_written_to_by_an_agent_that_collects(
    online: TrainConfig, data: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    for path in data.iterdir():
        path.chmod(0o444)
    config = merge(online, {"data": {"dataset": str(data), "env_steps_per_update": 8.0}, "updates": 4})
    trainer = Trainer(config, tmp_path / "run")
    finish(trainer)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    assert trainer.experience.env_steps == 32
    assert len(trainer.experience) == 60 + 32
    finish(Trainer(config, tmp_path / "parts"), until=2)
    finish(resume(tmp_path / "parts"))
    assert not differences(tmp_path / "run", tmp_path / "parts")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: (data / "replay.json").write_text("{"), "replay.json is damaged"),
        (lambda data: (data / "reward.npy").unlink(), "reward.npy is missing"),
        (
            lambda data: (data / "reward.npy").write_bytes((data / "reward.npy").read_bytes()[:-9]),
            "cut short",
        ),
        (lambda data: (data / "reward.npy").write_bytes(b"no array"), "damaged or cut short"),
    ],
    ids=["description", "missing", "short", "foreign"],
)
def test_a_data_set_that_cannot_be_read_is_named_before_anything_is_written(
    walk: TrainConfig, data: Path, tmp_path: Path, damage: object, message: str
) -> None:
    damage(data)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        Trainer(merge(walk, {"data": {"dataset": str(data)}}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_data_set_with_too_short_streams_or_of_another_task_is_refused(
    walk: TrainConfig, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="20 steps in each of its 3 streams, fewer than a sequence of 21"):
        Trainer(merge(walk, {"data": {"dataset": str(data)}, "length": 21}), tmp_path / "run")
    with pytest.raises(ValueError, match="was collected in 'walk:steps'"):
        Trainer(merge(walk, {"data": {"dataset": str(data)}, "env": "walk:push"}), tmp_path / "run")


@pytest.mark.parametrize("env", ["walk:steps", ["walk:steps", "walk:other"], None])
def test_a_data_set_of_another_task_with_the_same_shapes_is_pointed_at(
    walk: TrainConfig, data: Path, tmp_path: Path, env: object, capsys: pytest.CaptureFixture[str]
) -> None:
    described = json.loads((data / "replay.json").read_text())
    described["metadata"]["env"] = env
    (data / "replay.json").write_text(json.dumps(described))
    Trainer(merge(walk, {"data": {"dataset": str(data)}}), tmp_path / "run").close()
    said = capsys.readouterr()
    assert ("walk:other" in said.out + said.err) == isinstance(env, list)


@pytest.mark.parametrize(("steps", "seed"), [(60, 10), (90, 9)], ids=["others", "more"])
def test_a_given_data_set_that_was_made_anew_is_reported(
    walk: TrainConfig, data: Path, tmp_path: Path, steps: int, seed: int
) -> None:
    finish(Trainer(merge(walk, {"data": {"dataset": str(data)}, "updates": 4}), tmp_path / "run"), until=2)
    finish(resume(tmp_path / "run"), until=3)
    assert not any("has changed" in str(line) for line in lines(tmp_path / "run"))
    shutil.rmtree(data)
    collect("walk:steps", policy="random", steps=steps, streams=3, seed=seed, directory=data)
    finish(resume(tmp_path / "run"))
    assert [f"{data} has changed" in str(line) for line in lines(tmp_path / "run")].count(True) == 1


@pytest.mark.slow
def test_a_long_episode_outlives_checkpoints_and_processes(online: TrainConfig, tmp_path: Path) -> None:
    config = merge(
        online,
        {
            "env": "walk:push",
            "env_options": {"length": 15},
            "updates": 9,
            "data": {"env_steps_per_update": 4.0},
        },
    )
    finish(Trainer(config, tmp_path / "whole"))
    collected = [line["collected"] for line in lines(tmp_path / "whole") if "collected" in line]
    # 18 steps of each stream: one episode of 15 has ended in both, across seven checkpoints.
    assert [(line["episodes"], line["mean_length"]) for line in collected] == [(2, 15.0)]
    for until in (3, 5):
        finish(Trainer(config, tmp_path / "parts") if until == 3 else resume(tmp_path / "parts"), until=until)
    finish(resume(tmp_path / "parts"))
    assert not differences(tmp_path / "whole", tmp_path / "parts")
    assert [line["collected"] for line in lines(tmp_path / "parts") if "collected" in line] == collected


def test_an_environment_that_does_not_repeat_itself_begins_new_episodes_and_the_log_says_so(
    online: TrainConfig, tmp_path: Path
) -> None:
    config = merge(online, {"env_options": {"forgetful": True, "length": 50}})
    finish(Trainer(config, tmp_path / "run"), until=3)
    finish(resume(tmp_path / "run"))
    notes = [line["resumed"]["note"] for line in lines(tmp_path / "run") if "resumed" in line]
    assert len(notes) == 2
    assert all("led elsewhere" in note for note in notes)


def test_a_prefill_that_comes_out_otherwise_is_reported(walk: TrainConfig, tmp_path: Path) -> None:
    config = merge(walk, {"env_options": {"forgetful": True}})
    finish(Trainer(config, tmp_path / "run"), until=2)
    finish(resume(tmp_path / "run"))
    assert any("prefill" in line["resumed"]["note"] for line in lines(tmp_path / "run") if "resumed" in line)


@pytest.mark.slow
def test_a_full_ring_is_found_as_it_was_though_the_killed_run_wrote_on(
    online: TrainConfig, tmp_path: Path
) -> None:
    # A ring of 12 steps a stream is full after the prefill: each later step takes the place of one.
    config = merge(online, {"data": {"capacity": 24, "env_steps_per_update": 8.0}, "checkpoint_every": 3})
    finish(Trainer(config, tmp_path / "whole"))
    killed = Trainer(config, tmp_path / "killed")
    update, original = [0], killed.learner.update

    def kill(batch: object) -> dict[str, object]:
        update[0] += 1
        if update[0] == 6:
            raise KeyboardInterrupt
        return original(batch)  # type: ignore[arg-type, return-value]

    killed.learner.update = kill  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        finish(killed)
    description = json.loads((tmp_path / "killed" / "data" / "replay.json").read_text())
    assert description["written"] > description["capacity"] == 12
    finish(resume(tmp_path / "killed"))
    assert not differences(tmp_path / "whole", tmp_path / "killed")
    rings = [np.load(tmp_path / run / "data" / "reward.npy") for run in ("whole", "killed")]
    assert np.array_equal(*rings)
