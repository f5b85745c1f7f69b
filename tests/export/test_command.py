"""``thick export``: from the folder of a training run to an entry that says where it comes from."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from tests.models.sizes import tiny
from thick.commands.export import command, export_run, training_command
from thick.configuration import merge
from thick.export import EntryError, load_model, read_manifest
from thick.training.checkpoint import load_checkpoint
from thick.training.config import DataConfig, EvaluationConfig, TrainConfig, load_config, override, presets
from thick.training.trainer import Trainer

CONFIG = TrainConfig(
    env="minigrid:MiniGrid-DoorKey-5x5-v0+map",
    name="tiny",
    description="Two updates.",
    updates=2,
    batch=2,
    length=8,
    threads=1,
    learner="thick-dreamer",
    model=tiny(actor_critic=True),
    data=DataConfig(prefill=64, streams=2),
    evaluation=EvaluationConfig(alignment_every=0, alignment_steps=0),
    planner={"low": "categorical-cem", "samples": 50},
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two updates."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    trainer = Trainer(CONFIG, folder)
    trainer.run()
    trainer.close()
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it to be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_an_entry_holds_the_weights_of_the_latest_checkpoint_and_nothing_else(
    run: Path, tmp_path: Path
) -> None:
    path = export_run(run, out=tmp_path / "models")
    assert path == tmp_path / "models" / "tiny" / "1"
    tensors, _ = load_checkpoint(run / "checkpoints")
    weights = {
        key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")
    }
    loaded = load_model(path)
    state = loaded.model.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[key], weights[key]) for key in state)
    assert loaded.model.config == CONFIG.model
    assert loaded.model.behaviour is not None


@pytest.mark.parametrize(
    ("planner", "said"),
    [
        ({"low": "cem"}, "planner.low: 'cem' needs continuous actions"),
        ({"method": "polizy"}, "planner.method: expected one of hierarchical, flat, policy"),
    ],
)
def test_a_planner_that_the_model_has_not_is_refused_and_nothing_is_written(
    run: Path, tmp_path: Path, planner: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        export_run(run, out=tmp_path / "models", planner=planner)
    assert not (tmp_path / "models").exists()


def test_a_manifest_reports_task_planner_and_origin(run: Path, tmp_path: Path) -> None:
    manifest = read_manifest(export_run(run, out=tmp_path, name="key", version="2.1"))
    assert (manifest.name, manifest.version, manifest.kind) == ("key", "2.1", "thick")
    assert manifest.task == CONFIG.env
    assert manifest.planner == CONFIG.planner
    origin = manifest.provenance
    assert origin["description"] == "Two updates."
    assert origin["updates"] == 2
    assert origin["env_steps"] == 64
    assert origin["hours"] >= 0
    assert origin["data"]["steps"] == 64
    assert origin["results"] is None
    assert manifest.configuration["data"]["prefill"] == 64
    assert manifest.configuration["batch"] == 2


def test_what_was_measured_goes_into_the_manifest_without_its_list_of_episodes(
    run: Path, tmp_path: Path
) -> None:
    measured = {"success_rate": 0.95, "mean_return": 0.9}
    content = {"task": CONFIG.env, "methods": {"flat": {**measured, "episodes": [{"seed": 0}]}}}
    (run / "results.json").write_text(json.dumps(content))
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"update": 1, "gates": {"precision": 0.1}}) + "\n")
        log.write(json.dumps({"update": 2, "gates": {"precision": 0.5}}) + "\n")
        log.write('{"update": 3, "gat')  # killed while writing
    origin = read_manifest(export_run(run, out=tmp_path)).provenance
    assert origin["results"] == {"task": CONFIG.env, "methods": {"flat": measured}}
    assert origin["gates"] == {"precision": 0.5}


def configured(line: str) -> TrainConfig:
    """The configuration that a `thick train` makes."""
    words = shlex.split(line)
    assert words[:3] == ["thick", "train", "--preset"]
    names, rest = [], words[2:]
    while rest and rest[0] == "--preset":
        names.append(rest[1])
        rest = rest[2:]
    return override(load_config(*names), rest)


@pytest.mark.slow
def test_the_command_in_a_manifest_gives_the_configuration_again() -> None:
    assert presets()
    for name in presets():
        assert training_command(load_config(name)) == f"thick train --preset {name}"
    first = load_config(presets()[0])
    changed = dataclasses.replace(
        first,
        seed=3,
        description='It\'s "quoted"',
        model=dataclasses.replace(first.model, kl_balance=1e-4, discount_head=not first.model.discount_head),
        planner={"samples": 7},
    )
    for config in (changed, CONFIG):
        assert configured(training_command(config)) == config
    composed = load_config("learners/dreamer", "sizes/small", "tasks/cartpole")
    assert configured(training_command(composed)) == composed
    assert training_command(composed).count("--preset") == 3


def test_the_command_says_what_it_wrote_and_what_is_next(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run([str(run), "--out", str(tmp_path / "models")]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "models" / "tiny" / "1") in said
    assert "thick evaluate" in said
    assert f"thick serve --models {tmp_path / 'models'}" in said
    assert command.run([str(run), "--out", str(tmp_path / "models")]) == 0
    assert (tmp_path / "models" / "tiny" / "2").is_dir()


def test_graphs_are_written_with_an_entry_or_added_to_one(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run([str(run), "--onnx", "--out", str(tmp_path / "models")]) == 0
    assert "ONNX graphs, which agree with torch" in capsys.readouterr().out
    entry = tmp_path / "models" / "tiny" / "1"
    graphs = read_manifest(entry).graphs
    assert {path.stem for path in entry.glob("*.onnx")} == set(graphs) >= {"encode", "imagine", "jump"}
    later = export_run(run, out=tmp_path / "models")
    assert not read_manifest(later).graphs
    assert command.run([str(later), "--onnx"]) == 0
    assert f"{later}: {len(graphs)} ONNX graphs" in capsys.readouterr().out
    assert read_manifest(later).graphs == graphs
    assert load_model(later).manifest.weights == read_manifest(entry).weights
    assert command.run([str(later), "--onnx", "--name", "other"]) == 2
    assert "leave --name" in capsys.readouterr().err
    assert command.run([str(later)]) == 2
    assert "holds no training run" in capsys.readouterr().err


def test_a_graph_that_cannot_be_verified_leaves_no_entry(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(*_: object) -> None:
        raise EntryError("graph jump: differs")

    monkeypatch.setattr("thick.runtimes.onnx.export.verify", differs)
    assert command.run([str(run), "--onnx", "--out", str(tmp_path / "models")]) == 1  # a check that failed
    said = capsys.readouterr().err
    assert "graph jump: differs; nothing was written" in said and said.count("\n") == 1
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: shutil.rmtree(run), "holds no training run"),
        (lambda run: (run / "config.yaml").unlink(), "holds no training run"),
        (
            lambda run: (run / "config.yaml").write_text("modle: {}"),
            "unknown key 'modle'; did you mean 'model'",
        ),
        (lambda run: shutil.rmtree(run / "checkpoints"), "no checkpoint in"),
        (lambda run: (run / "results.json").write_text("{"), "no result of `thick evaluate`"),
        (lambda run: (run / "metrics.jsonl").write_text("{\n"), "line 1: not valid JSON"),
        (lambda run: _spoil(run / "checkpoints" / "000000002"), "not finite"),
    ],
)
def test_a_folder_that_is_no_sound_run_is_refused_and_nothing_is_written(
    run: Path, tmp_path: Path, damage: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run)  # type: ignore[operator]
    with pytest.raises(EntryError, match=message):
        export_run(run, out=tmp_path / "models")
    assert command.run([str(run), "--out", str(tmp_path / "models")]) == 2
    assert capsys.readouterr().err.startswith("thick export: ")
    assert not (tmp_path / "models").exists()


def test_a_model_that_is_not_finite_is_refused_with_the_name_of_the_last_that_is(
    run: Path, tmp_path: Path
) -> None:
    good = run / "checkpoints" / "000000002"
    bad = Path(shutil.copytree(good, run / "checkpoints" / "000000003"))
    (run / "checkpoints" / "latest").write_text(bad.name)
    _spoil(bad)
    with pytest.raises(EntryError, match=f"not finite; the last checkpoint that can be used is {good}"):
        export_run(run, out=tmp_path / "models")


def _spoil(checkpoint: Path) -> None:
    """Put a NaN into a checkpoint, as a training that diverged left it before checkpoints were checked."""
    from safetensors.torch import load, save

    path = checkpoint / "state.safetensors"
    tensors = load(path.read_bytes())
    name = next(key for key in tensors if key.startswith("model."))
    tensors[name] = torch.full_like(tensors[name], float("nan"))
    path.write_bytes(save(tensors))
    state = json.loads((checkpoint / "state.json").read_text())
    del state["tensors"]
    (checkpoint / "state.json").write_text(json.dumps(state))


def test_the_recipe_of_another_task_is_no_way_to_say_how_a_model_was_trained() -> None:
    near = merge(
        load_config("doorkey6-memory"), {"env": "minigrid:corridor-2+held", "learner": "thick-planet"}
    )
    assert "--preset doorkey6" not in training_command(near)
    assert configured(training_command(near)) == near
