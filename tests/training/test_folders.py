"""The folder of a run: failed starts do not block it, two runs do not share it, a full disk is told."""

from __future__ import annotations

import errno
import gc
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import ONLINE, WALK, differences, finish
from thick.cli import main
from thick.configuration import merge
from thick.data.dataset import collect
from thick.files import FolderInUseError, FolderLock, write_atomically
from thick.training.checkpoint import CheckpointError, load_checkpoint
from thick.training.config import TrainConfig
from thick.training.interrupts import StopRequest
from thick.training.trainer import RunStoppedError, Trainer, resume


@pytest.fixture
def interrupted(online: TrainConfig, tmp_path: Path) -> Path:
    """A run that stopped after four of its six updates."""
    finish(Trainer(online, tmp_path / "run"), until=4)
    return tmp_path / "run"


@pytest.fixture
def stopped(online: TrainConfig, tmp_path: Path) -> Path:
    """A run that was stopped in its prefill."""
    stop = StopRequest()
    stop.request()
    assert not finish(Trainer(online, tmp_path / "run", stop=stop))
    return tmp_path / "run"


@pytest.fixture(scope="module")
def finished_once(walk: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    finish(Trainer(walk, folder))
    return folder


@pytest.mark.parametrize(
    "fault",
    [
        {"env": "walk:stpes"},
        {"device": "cuda:77"},
        {"planner": {"low": "cem"}},
        {"data": {"dataset": "nowhere"}},
    ],
    ids=["env", "device", "planner", "data set"],
)
def test_a_start_that_cannot_be_leaves_nothing_behind(
    walk: TrainConfig, tmp_path: Path, fault: dict[str, Any]
) -> None:
    with pytest.raises((ValueError, FileNotFoundError)):
        Trainer(merge(walk, fault), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"length": 10**12, "data": ONLINE},
            r"length: .* GB for 2 streams of at least 1000000000000 steps .* give",
        ),
        ({"length": 10**12}, "give --length [0-9]+ or less, or fewer --data.streams"),
        ({"data": {**ONLINE, "capacity": 10**12}}, "data.capacity: .* GB for 1000000000000 steps"),
        (
            {"data": {**ONLINE, "planner": {"low": "cem"}}},
            "^data.planner.low: 'cem' needs continuous actions",
        ),
    ],
)
def test_what_has_no_room_or_does_not_fit_is_refused_before_anything_is_collected(
    walk: TrainConfig, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Trainer(merge(walk, changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_that_stopped_before_its_first_checkpoint_is_started_anew(
    online: TrainConfig, stopped: Path, tmp_path: Path, resumed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (stopped / "metrics.jsonl").write_text('{"update": 0, "data": {}}\n')
    finish(resume(stopped) if resumed else Trainer(online, stopped), until=2)
    assert "it is started anew" in capsys.readouterr().err
    assert json.loads((stopped / "metrics.jsonl").read_text().splitlines()[0])["data"] != {}
    finish(Trainer(online, tmp_path / "clean"), until=2)
    assert not differences(stopped, tmp_path / "clean")


def test_a_folder_that_holds_a_run_is_not_overwritten(walk: TrainConfig, finished_once: Path) -> None:
    with pytest.raises(FileExistsError, match="--resume"):
        Trainer(walk, finished_once)


def test_a_data_set_in_the_folder_is_not_taken_for_the_runs_own(online: TrainConfig, tmp_path: Path) -> None:
    data = tmp_path / "run" / "data"
    collect("walk:steps", policy="random", steps=40, streams=2, seed=0, directory=data)
    before = {path: path.read_bytes() for path in data.iterdir()}
    with pytest.raises(FileExistsError, match="holds a data set"):
        Trainer(online, tmp_path / "run")
    with pytest.raises((ValueError, FileExistsError), match="holds a data set"):
        Trainer(merge(online, {"data": {"dataset": str(data)}}), tmp_path / "run")
    assert before == {path: path.read_bytes() for path in data.iterdir()}


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "metrics.jsonl", "data/steps.csv", "data/action.npy", "checkpoints/mine/weights.pt"],
)
def test_a_folder_with_files_that_no_run_wrote_is_refused(
    online: TrainConfig, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "run" / name
    file.parent.mkdir(parents=True)
    file.write_text("seed: 3\n")
    with pytest.raises(
        FileExistsError, match=f"{file.relative_to(tmp_path / 'run').parts[0]}.*name another folder"
    ):
        Trainer(online, tmp_path / "run")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"] == [file]
    assert file.read_text() == "seed: 3\n"


def test_what_others_put_beside_a_runs_files_stays(
    online: TrainConfig, stopped: Path, tmp_path: Path
) -> None:
    others = [stopped / name for name in ("notes.txt", "data/notes.txt", "checkpoints/best/weights.pt")]
    for file in others:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    finish(Trainer(online, stopped))
    assert [file.read_text() for file in others] == ["mine"] * 3
    assert not differences(stopped, stopped)


def test_two_runs_in_one_folder_at_once_are_refused(
    walk: TrainConfig, finished_once: Path, tmp_path: Path
) -> None:
    held = FolderLock(tmp_path / "run")
    with pytest.raises(FolderInUseError, match="is being written by process"):
        Trainer(walk, tmp_path / "run")
    held.release()
    held = FolderLock(finished_once)
    with pytest.raises(FolderInUseError):
        resume(finished_once)
    held.release()
    resume(finished_once).close()


def test_a_checkpoint_that_was_cut_short_is_passed_over_with_its_name(
    online: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(Trainer(online, tmp_path / "run"), until=4)
    file = tmp_path / "run" / "checkpoints" / "000000004" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"000000004 was cut short.* can be used is .*000000002"):
        load_checkpoint(tmp_path / "run" / "checkpoints")
    finish(resume(tmp_path / "run"))
    assert "going on from" in capsys.readouterr().err
    finish(Trainer(online, tmp_path / "whole"))
    assert not differences(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("content", [None, ""], ids=["lost", "empty"])
def test_whole_checkpoints_are_found_where_the_file_that_names_the_latest_is_not(
    walk: TrainConfig, interrupted: Path, content: str | None
) -> None:
    latest = interrupted / "checkpoints" / "latest"
    latest.unlink()
    if content is not None:
        latest.write_text(content)
    with pytest.raises(FileExistsError, match="--resume"):
        Trainer(walk, interrupted)
    trainer = resume(interrupted)
    assert trainer.learner.updates == 4
    trainer.close()
    assert load_checkpoint(interrupted / "checkpoints")[1]["update"] == 4


@pytest.mark.parametrize("name", ["replay.json", "reward.npy"])
@pytest.mark.parametrize("lost", [True, False])
def test_a_run_whose_own_steps_are_lost_or_damaged_says_so_in_one_line(
    interrupted: Path, name: str, lost: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = interrupted / "data" / name
    file.write_bytes(file.read_bytes()[:20])
    if lost:
        file.unlink()
    assert main(["train", "--run", str(interrupted), "--resume"]) == 1
    said = capsys.readouterr().err
    assert "the steps of this run cannot be read" in said and "last finite checkpoint" in said
    assert "Traceback" not in said and "the disk can be written" not in said


def test_a_run_whose_environment_has_other_spaces_now_says_so_in_one_line(
    interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = interrupted / "config.yaml"
    config.write_text(config.read_text().replace("env: walk:steps", "env: walk:push"))
    assert main(["train", "--run", str(interrupted), "--resume"]) == 2
    said = capsys.readouterr().err.strip()
    assert "whose spaces have changed since" in said and "\n" not in said


def test_a_run_does_not_begin_in_the_folder_of_a_data_set(walk: TrainConfig, tmp_path: Path) -> None:
    data = tmp_path / "data"
    collect("walk:steps", policy="random", steps=40, streams=2, seed=0, directory=data)
    before = sorted(data.iterdir())
    with pytest.raises(FileExistsError, match="holds a data set: name another folder for the run"):
        Trainer(merge(walk, {"data": {"dataset": str(data)}}), data)
    assert sorted(data.iterdir()) == before


def test_options_that_a_policy_has_not_are_refused_before_anything_is_written(
    tiny: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="scripted has no option 'epsilonn'; did you mean 'epsilon'"):
        Trainer(merge(tiny, {"data": {"policy_options": {"epsilonn": 0.3}}}), tmp_path / "run")
    with pytest.raises(ValueError, match="policy: scripted cannot have the options"):
        Trainer(merge(tiny, {"data": {"policy_options": {"epsilon": "much"}}}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_stops_the_run_with_its_last_checkpoint_and_it_goes_on_later(
    online: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def full(path: Path, content: bytes) -> None:
        written.append(path)
        if path.parent.name == "000000004":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_atomically(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("thick.training.checkpoint.write_atomically", full)
        with pytest.raises(RunStoppedError, match=r"No space left.*000000002.*--resume"):
            finish(Trainer(online, tmp_path / "run"))
    assert not (tmp_path / "run" / "checkpoints" / "000000004").exists()
    finish(resume(tmp_path / "run"))
    finish(Trainer(online, tmp_path / "whole"))
    assert not differences(tmp_path / "whole", tmp_path / "run")


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_the_command_says_where_everything_is_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    preset, run = tmp_path / "preset.yaml", tmp_path / "run"
    preset.write_text(yaml.safe_dump({**WALK, "updates": 2}))
    assert main(["train", "--preset", str(preset), "--run", str(run)]) == 0
    said = capsys.readouterr().out
    assert f"thick evaluate {run}" in said
    assert str(run / "checkpoints" / "000000002") in said
    assert main(["train", "--preset", str(preset), "--run", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "--run", str(run), "--resume", "--updates", "3"]) == 0
    assert "goes on from update 2 to 3" in capsys.readouterr().err
    assert main(["train", "--run", str(run), "--resume", "--batch", "3"]) == 2
    assert "batch: a run goes on as it was configured" in capsys.readouterr().err
    assert main(["train", "--run", str(tmp_path / "other"), "--resume"]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_commands_that_are_suggested_can_be_typed_where_a_path_has_a_space(
    tmp_path: Path, walk: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    from thick.commands.train import train

    train(Trainer(merge(walk, {"updates": 1}), tmp_path / "my run"))
    said = capsys.readouterr()
    lines = [line.split(":", 1)[1] for line in (said.out + said.err).splitlines() if "thick evaluate" in line]
    assert [shlex.split(line) for line in lines] == [["thick", "evaluate", str(tmp_path / "my run")]]


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        FolderLock(tmp_path / "file" / "run")
    gc.collect()
    assert not [each for each in recwarn if "FolderLock" in str(each.message)]
