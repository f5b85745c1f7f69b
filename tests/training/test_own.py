"""Training in environments of one's own: defaults that fit, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.envs.test_own import CORRIDOR
from thick.cli import main
from thick.training.config import TrainConfig
from thick.training.defaults import fitted, model_name

SMALL = [
    "--updates", "2", "--batch", "2", "--length", "5", "--data.prefill", "40", "--data.streams", "2",
    "--data.env_steps_per_update", "0", "--checkpoint_every", "2", "--log_every", "2",
    "--model.deter", "8", "--model.hidden", "8", "--model.stoch", "2", "--model.classes", "2",
    "--model.mlp_units", "8", "--model.head_units", "8",
]  # fmt: skip


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_env.py").write_text(CORRIDOR)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_fit_the_spaces() -> None:
    grid, vector = (
        fitted(TrainConfig(env=env)) for env in ("minigrid:corridor-1", "gym:MountainCarContinuous-v0")
    )
    assert grid.model.mlp_units > vector.model.mlp_units
    assert "low" not in grid.planner and "low" not in vector.planner  # the search follows from the actions
    assert (grid.name, vector.name) == ("corridor-1", "mountaincarcontinuous-v0")


@pytest.mark.parametrize(
    ("env_id", "name"),
    [
        ("own_env.py:Corridor", "corridor"),
        ("pkg.envs:make_env+notext", "make_env-notext"),
        ("gym:ale_py:ALE/Pong-v5", "ale-pong-v5"),
        ("minigrid:corridor-3+map", "corridor-3-map"),
    ],
)
def test_a_model_is_named_after_its_task(env_id: str, name: str) -> None:
    assert model_name(env_id) == name


def test_one_s_own_environment_is_trained_on_without_a_preset_and_named_in_the_manifest(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--env", "own_env.py:Corridor", "--env_options", "{length: 3}"]
    assert main(["train", *options, "--run", "runs/own", *SMALL]) == 0
    assert main(["export", "runs/own", "--out", "models"]) == 0
    manifest = (own / "models" / "corridor" / "1" / "manifest.json").read_text()
    assert '"task": "own_env.py:Corridor"' in manifest and '"length": 3' in manifest
    assert main(["train", "--run", "runs/own", "--resume", "--updates", "3"]) == 0
    capsys.readouterr()
    words = [
        "--episodes",
        "1",
        "--max-steps",
        "2",
        "--method",
        "flat",
        "--set",
        "samples=4",
        "--set",
        "iterations=1",
    ]
    assert main(["evaluate", "models/corridor/1", "--env", "own_env.py:wrapped", *words]) == 2
    assert "observation_space is Box(0.0, 5.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--env", "own_env.py:Nothing"], "own_env.py has no 'Nothing'"),
        (["--env", "own_env.py:Falls"], "step() failed: ZeroDivisionError"),
        (["--env", "own_env.py:Needs"], "needs 'length'"),
        (["--env", "gym:CartPol-v1"], "did you mean 'gym:CartPole-v1'"),
        (["--env", "gym:minigrid:MiniGrid-Empty-5x5-v0"], "mission is text"),
        (["--env", "own_env.py:Corridor", "--device", "cuda:9"], "there is no 'cuda:9'"),
        (["--env", "own_env.py:Corridor", "--device", "tpu"], "device: expected cpu"),
        (["--env", "own_env.py:Corridor", "--device", "mps"], "device: expected cpu"),  # known to torch alone
        (["--env", "own_env.py:Corridor", "--device", "meta"], "device: expected cpu"),
        (["--env", "own_env.py:Corridor", "--device", "cpu:1"], "device: expected cpu"),
        (["--env", "own_env.py:Corridor", "--planner", "{low: cem}"], "'cem' needs continuous actions"),
        (
            ["--env", "own_env.py:Corridor", "--data.planner", "{low: icem}"],
            "'icem' needs continuous actions",
        ),
        (
            ["--env", "own_env.py:Corridor", "--data.prefill_policy", "scripted"],
            "scripted plays key-and-door rooms",
        ),
        (["--preset", "cartpole", "--env", "own_env.py:Corridor"], "'cem' needs continuous actions"),
        (["--env", "own_env.py:Corridor", "--length", "1"], "length: expected at least 2, got 1"),
        (["--env", "pinpad:three", "--data.capacity", "100000000000"], "GB for"),
        ([], "name a task, such as --env own_env.py:Corridor, or a preset"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_on_is_refused_in_one_line_and_nothing_is_written(
    own: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(["train", *words, "--run", "runs/own"]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and said.startswith("thick train: ")
    assert not (own / "runs").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--env", "own_env.py:Nothing"], "own_env.py has no 'Nothing'"),
        (["--env", "own_env.py:OldStep"], "gave 4 values"),
        (["--env", "gym:CartPole-v1", "--policy", "scripted"], "scripted plays key-and-door rooms"),
    ],
)
def test_collecting_refuses_the_same_and_leaves_nothing(
    own: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(["collect", *words, "--steps", "20", "--streams", "2", "--out", "data"]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert not (own / "data").exists()


def test_a_missing_simulator_is_one_line(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "lacks.py").write_text("import no_such_simulator\n")
    for command in (["train", "--run", "runs/x"], ["collect", "--out", "data"]):
        assert main([*command, "--env", "lacks.py:Robot"]) == 2
        said = capsys.readouterr().err
        assert "No module named 'no_such_simulator'" in said and said.count("\n") == 1
    # Python itself keeps what it compiled beside a file that it imports, unless it was told not to.
    left = {path.name for path in own.iterdir() if path.suffix != "" or path.is_dir()} - {"__pycache__"}
    assert left == {"lacks.py", "own_env.py"}


def test_the_fields_that_are_listed_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--env", "gym:CartPole-v1", "--fields"]) == 0
    assert "--env 'gym:CartPole-v1'" in capsys.readouterr().out
    assert main(["train", "--preset", "cartpole", "--updates", "5", "--fields"]) == 0
    assert "--updates 5 " in capsys.readouterr().out
    assert main(["train", "--fields"]) == 0
    assert "--updates " in capsys.readouterr().out
    assert main(["train", "--preset", "cartpole", "--updats", "5", "--fields"]) == 2
    assert "updates" in capsys.readouterr().err
