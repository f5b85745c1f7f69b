"""Collecting: conventions of a step, seeds, summaries."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thick.envs
from tests.training.conftest import WALK, finish
from thick.cli import main
from thick.configuration import merge
from thick.data.collect import Collector, RandomPolicy
from thick.data.dataset import CollectingFailedError, collect
from thick.data.replay import ReplayRing
from thick.files import FolderLock
from thick.training.config import TrainConfig
from thick.training.trainer import Trainer

ENV = "minigrid:MiniGrid-DoorKey-5x5-v0+map"


def test_a_first_step_has_no_action_and_no_reward_and_follows_every_end() -> None:
    ring, _ = collect(ENV, policy="scripted", steps=600, streams=2, seed=0, directory=None)
    first, terminal = ring.steps("is_first"), ring.steps("is_terminal")
    assert first[:, 0].all()
    assert not ring.steps("action")[first].any()
    assert not ring.steps("reward")[first].any()
    assert (ring.steps("action")[~first].sum(-1) == 1).all()
    assert terminal.any()
    assert first[:, 1:][terminal[:, :-1]].all()
    assert (ring.steps("reward")[terminal] > 0).all()


def test_the_same_seed_collects_the_same_steps_and_another_seed_others() -> None:
    def steps(seed: int) -> np.ndarray:
        return collect(ENV, policy="random", steps=80, streams=2, seed=seed, directory=None)[0].steps(
            "action"
        )

    assert np.array_equal(steps(1), steps(1))
    assert not np.array_equal(steps(1), steps(2))


def test_streams_restarted_together_begin_new_episodes() -> None:
    collector = Collector(ENV, streams=3, seed=0)
    policy = RandomPolicy(0)
    assert collector.step(policy)["is_first"].all()
    assert not collector.step(policy)["is_first"].any()
    collector.restart()
    assert collector.step(policy)["is_first"].all()
    assert collector.episodes.tolist() == [2, 2, 2]


def test_box_actions_and_dict_observations_are_kept_as_they_are() -> None:
    ring, _ = collect(
        "dm_control:cartpole-swingup", policy="random", steps=20, streams=2, seed=0, directory=None
    )
    assert ring.steps("observation/position").shape == (2, 10, 3)
    action = ring.steps("action")
    assert action.shape == (2, 10, 1)
    assert np.abs(action).max() <= 1


def test_the_command_writes_a_data_set_and_will_not_write_over_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["collect", "--env", ENV, "--policy", "scripted", "--option", "epsilon=0.3"]
    arguments += ["--steps", "400", "--streams", "2", "--out", str(tmp_path / "data")]
    assert main(arguments) == 0
    ring = ReplayRing.open(tmp_path / "data")
    assert len(ring) == 400
    assert ring.metadata["policy_options"] == {"epsilon": 0.3}
    assert "success_rate" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "holds a data set already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("policy", "option", "says"),
    [
        ("random", "epsilon=0.3", "random takes no options, got epsilon"),
        ("scripted", "epsilonn=0.3", "has no option 'epsilonn'; did you mean 'epsilon'?"),
        ("scripted", "epsilon=much", "cannot have the options"),
    ],
)
def test_an_option_that_a_policy_has_not_is_named(
    policy: str, option: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["collect", "--env", ENV, "--policy", policy, "--option", option, "--steps", "40", "--out"]
    assert main([*arguments, str(tmp_path / "data")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_collecting_that_is_stopped_keeps_what_there_is(tmp_path: Path) -> None:
    told: list[int] = []
    collect(
        ENV,
        policy="random",
        steps=400,
        streams=2,
        seed=0,
        directory=tmp_path / "data",
        progress=told.append,
        stopped=lambda: len(told) == 10,
    )
    assert told[-1] == 20
    assert ReplayRing.open(tmp_path / "data").steps("reward").shape == (2, 10)


def test_a_folder_is_collected_into_by_one_at_a_time_and_a_typo_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = FolderLock(tmp_path / "data")
    arguments = ["collect", "--steps", "20", "--streams", "2", "--out"]
    assert main([*arguments, str(tmp_path / "data"), "--env", ENV]) == 2
    assert "is being written by process" in capsys.readouterr().err
    lock.release()
    assert main([*arguments, str(tmp_path / "other"), "--env", "minigrid:MiniGrid-DorKey-5x5-v0"]) == 2
    assert not (tmp_path / "other").exists()


def test_streams_take_several_tasks_in_turn_and_their_spaces_must_be_the_same(tmp_path: Path) -> None:
    tasks = [f"minigrid:corridor-{doors}+partial" for doors in (1, 2)]
    collector = Collector(tasks, streams=3, seed=0)
    assert [env.unwrapped.doors for env in collector.envs] == [1, 2, 1]
    _, summary = collect(tasks, policy="random", steps=12, streams=2, seed=0, directory=tmp_path / "data")
    assert summary["steps"] == 12
    assert ReplayRing.open(tmp_path / "data").metadata["env"] == tasks
    with pytest.raises(ValueError, match=r"corridor-1.full and minigrid:corridor-2.full have different"):
        Collector([task.replace("partial", "full") for task in tasks], streams=2, seed=0)
    with pytest.raises(ValueError, match="at least one for each of 2 tasks, got 1"):
        collect(tasks, policy="random", steps=12, streams=1, seed=0, directory=None)


def test_files_of_others_are_not_written_over_and_an_error_leaves_nothing(tmp_path: Path) -> None:
    def gather(folder: Path, **options: Any) -> None:
        collect(ENV, policy="random", steps=40, streams=2, seed=0, directory=folder, **options)

    own = tmp_path / "own"
    own.mkdir()
    (own / "action.npy").write_text("precious")
    with pytest.raises(FileExistsError, match=r"holds action\.npy"):
        gather(own)
    assert [path.name for path in own.iterdir()] == ["action.npy"]
    assert (own / "action.npy").read_text() == "precious"

    gather(tmp_path / "stopped", stopped=lambda: True)
    assert not (tmp_path / "stopped").exists()

    def failing(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather(tmp_path / "failed", progress=failing)
    assert not (tmp_path / "failed").exists()


@pytest.mark.parametrize("way", ["observation", "reward", "shape", "raises"])
def test_what_was_collected_before_an_environment_fails_is_kept_and_said(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thick.envs.register("walk", "tests.training.walk")
    options = f"{{nan_at: 30, nan_in: {way}}}"  # of each of the two, in one of its later episodes
    words = ["--env", "walk:steps", "--env_options", options, "--steps", "200", "--streams", "2"]
    data = tmp_path / "data"
    if way == "raises":  # an error of its own code, which its author wants to see
        with pytest.raises(CollectingFailedError) as caught:
            main(["collect", *words, "--out", str(data)])
        assert isinstance(caught.value.__cause__, RuntimeError)
    else:
        assert main(["collect", *words, "--out", str(data)]) == 1
    shown = capsys.readouterr()
    ring = ReplayRing.open(data)
    summary = json.loads(shown.out)
    assert summary == ring.metadata["summary"]
    assert summary["steps"] == len(ring) >= 60 and np.isfinite(ring.steps("reward")).all()
    assert 2 <= summary["episodes"] <= ring.steps("is_first").sum()
    assert "stream 0" in shown.err or way == "raises"
    assert f"kept: the {summary['steps']} steps until then, with {summary['episodes']} whole" in shown.err
    assert shown.err.count("\n") == 1
    training = Trainer(
        merge(TrainConfig(), {**WALK, "data": {"dataset": str(data), "streams": 2}}), tmp_path / "run"
    )
    assert finish(training)


def test_what_fails_before_the_first_whole_episode_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thick.envs.register("walk", "tests.training.walk")
    words = ["--env", "walk:steps", "--env_options", "{nan_at: 4}", "--steps", "200", "--streams", "2"]
    assert main(["collect", *words, "--out", str(tmp_path / "data")]) == 2
    assert not (tmp_path / "data").exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_what_was_collected_is_kept_when_it_is_stopped_at_once_or_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gather(name: str) -> None:
        collect(ENV, policy="random", steps=2000, streams=2, seed=0, directory=tmp_path / name)

    add = ReplayRing.add
    for name, error, seen in (
        ("stopped", KeyboardInterrupt(), KeyboardInterrupt),
        ("full", OSError(errno.ENOSPC, "No space left on device"), CollectingFailedError),
    ):

        def fails(ring: ReplayRing, step: Any, error: BaseException = error) -> None:
            if ring.written == 700:
                raise error
            add(ring, step)

        monkeypatch.setattr(ReplayRing, "add", fails)
        with pytest.raises(seen):
            gather(name)
        assert ReplayRing.open(tmp_path / name).steps("reward").shape == (2, 700)


def test_a_folder_in_which_collecting_was_killed_is_collected_into_again(tmp_path: Path) -> None:
    collect(ENV, policy="random", steps=40, streams=2, seed=0, directory=tmp_path)
    (tmp_path / "replay.json").unlink()  # written last
    collect(ENV, policy="random", steps=20, streams=2, seed=0, directory=tmp_path)
    assert len(ReplayRing.open(tmp_path)) == 20
