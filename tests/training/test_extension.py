"""A run can go on longer than it was to; what that does to its schedules is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.conftest import differences, finish
from thick.cli import main
from thick.commands.train import shortened
from thick.configuration import merge
from thick.training.config import TrainConfig, load_config, override
from thick.training.extension import extended
from thick.training.trainer import Trainer, resume


def test_a_run_that_is_extended_equals_one_that_was_as_long_from_the_beginning(
    walk: TrainConfig, tmp_path: Path
) -> None:
    finish(Trainer(merge(walk, {"updates": 3}), tmp_path / "short"))
    assert finish(resume(tmp_path / "short"))
    longer = resume(tmp_path / "short", {"updates": 6})
    assert finish(longer)
    assert longer.learner.updates == 6
    finish(Trainer(walk, tmp_path / "long"))
    assert not differences(tmp_path / "short", tmp_path / "long")
    assert resume(tmp_path / "short").config.updates == 6


def test_what_happens_to_the_schedules_is_said(walk: TrainConfig) -> None:
    config = merge(
        walk, {"updates": 100, "stop": 50, "optimizer": {"decay": 0.1}, "sparsity": {"ramp_to": 80}}
    )
    new, notes = extended(config, {"updates": 200}, done=50)
    assert (new.updates, new.stop) == (200, 0)
    text = " ".join(notes)
    assert "from update 50 to 200; before, it ended at 50" in text
    assert "at update 50 they are 0.775 of what they were at first, not 0.55" in text
    assert "sparsity counts its own updates" in text


def test_a_run_that_is_to_stop_after_its_last_update_is_refused(
    walk: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"stop: expected at most updates \(5\), got 9"):
        Trainer(merge(walk, {"updates": 5, "stop": 9}), tmp_path / "run")
    words = ["--updates", "5", "--stop=9", "--run", str(tmp_path / "run")]
    for task in (["--preset", "cartpole"], ["--env", "gym:CartPole-v1"]):
        assert main(["train", *task, *words]) == 2
        said = capsys.readouterr().err
        assert said.startswith("thick train: stop: expected at most updates (5)") and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_preset_with_fewer_updates_than_its_stop_ends_with_these_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = shortened(load_config("doorkey6-memory"), [])
    assert 0 < config.stop < config.updates
    words = ["--updates", "100"]
    short = shortened(override(config, words), words)
    assert (short.updates, short.stop) == (100, 0)
    assert "stops at update 12000, this run ends at 100" in capsys.readouterr().err


def test_a_run_of_a_release_that_took_such_a_stop_goes_on(walk: TrainConfig, tmp_path: Path) -> None:
    finish(Trainer(walk, tmp_path / "run"))
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text().replace("stop: 0", "stop: 999"))
    longer = resume(tmp_path / "run", {"updates": walk.updates + 2})
    assert finish(longer)
    assert longer.learner.updates == walk.updates + 2


def test_a_stop_that_lies_beyond_the_end_does_not_hold_up_an_extension(walk: TrainConfig) -> None:
    config = merge(walk, {"updates": 100, "stop": 1000})  # a preset's, in a run that was made shorter
    new, notes = extended(config, {"updates": 200}, done=100)
    assert (new.updates, new.stop) == (200, 0)
    assert notes == ["the run goes on from update 100 to 200; before, it ended at 100"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updates": 40}, "has made 50 updates already"),
        ({"batch": 3}, "batch: a run goes on as it was configured"),
        ({"stop": 120}, "expected at most updates"),
    ],
)
def test_other_changes_are_refused(walk: TrainConfig, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extended(merge(walk, {"updates": 100}), changes, done=50)
