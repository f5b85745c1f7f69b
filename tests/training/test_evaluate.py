"""Evaluation and alignment: episodes on unseen seeds, and gates against events."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import finish
from thick.cli import main
from thick.commands.evaluate import success_within
from thick.configuration import merge
from thick.files import write_atomically
from thick.planning.settings import PlannerSettings
from thick.runtimes.torch.model import FrozenModel
from thick.training.alignment import gate_alignment, play_with_events
from thick.training.config import TrainConfig
from thick.training.evaluate import evaluate_agent
from thick.training.runs import load_agent, load_run
from thick.training.trainer import Trainer

FLAT: dict[str, Any] = {"dynamics": "rssm", "levels": [], "behaviour": "none"}
ENV = "minigrid:MiniGrid-DoorKey-5x5-v0+map"


def _play(run: Path, parallel: int, method: str = "hierarchical") -> dict[str, object]:
    agent, task, _ = load_agent(run)
    settings = agent.settings({"method": method})
    return evaluate_agent(agent, task, settings=settings, episodes=3, seed=40, parallel=parallel, max_steps=6)


@pytest.mark.parametrize(
    "method", ["policy", *(pytest.param(m, marks=pytest.mark.slow) for m in ("flat", "hierarchical"))]
)
def test_an_episode_does_not_depend_on_its_neighbours(trained: Path, method: str) -> None:
    assert _play(trained, 1, method)["episodes"] == _play(trained, 3, method)["episodes"]


def test_a_random_policy_is_reproducible_and_needs_no_agent() -> None:
    first, second = (
        evaluate_agent(None, ENV, settings=None, episodes=4, seed=7, parallel=parallel, max_steps=30)
        for parallel in (1, 4)
    )
    assert first == second
    assert [episode["seed"] for episode in first["episodes"]] == [7, 8, 9, 10]


def test_alignment_counts_what_the_gates_did_on_every_event(trained: Path) -> None:
    _, model, _ = load_run(trained)
    play = play_with_events(ENV, policy="scripted", steps=200, seed=3)
    with torch.no_grad():
        gate = model.world.dynamics.gatel0rd.gate
        gate.bias.fill_(100.0)
        always = gate_alignment(model.world, play)
        gate.bias.fill_(-100.0)
        never = gate_alignment(model.world, play)
    assert always["context_change"] == 1
    assert {event["recall"] for event in always["events"].values()} == {1.0}
    assert always["precision"] == pytest.approx(always["any_event_rate"])
    assert never["context_change"] == 0
    assert {event["recall"] for event in never["events"].values()} == {0.0}
    with torch.no_grad():
        gate.bias.fill_(100.0)
    near = gate_alignment(model.world, play, within=1)
    assert near["by_chance"]["precision"] == near["precision"] > always["precision"]
    assert near["by_chance"]["recall"] == 1
    counted = sum(bool(names) for names_of in play.events for names in names_of[1:])
    assert always["any_event_rate"] == pytest.approx(counted / always["steps"])


def test_play_with_events_is_whole_episodes_that_are_not_training_data() -> None:
    play = play_with_events(ENV, policy="scripted", steps=100, seed=3)
    for episode, events in zip(play.episodes, play.events, strict=True):
        assert episode["is_first"].tolist() == [True] + [False] * (len(events) - 1)
        assert ("goal" in events[-1]) == bool(episode["is_terminal"][-1])
        assert np.isfinite(episode["reward"]).all()


def test_the_command_prints_a_table_and_keeps_the_results_in_the_run(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(trained), "--episodes", "2", "--max-steps", "3", "--threads", "1"]
    assert main([*arguments, "--set", "samples=8", "--within", "2", "3"]) == 0
    shown = capsys.readouterr().out
    assert "hierarchical" in shown and "within 2" in shown and "within 3" in shown
    content = json.loads((trained / "results.json").read_text())
    assert set(content["methods"]) == {"hierarchical", "flat", "random"}
    assert content["planner"] == {"samples": 8}
    assert content["methods"]["random"]["success_within"] == {"2": 0.0, "3": 0.0}
    assert main([*arguments, "--set", "sampels=8"]) == 2
    assert "samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words", "played"),
    [
        ({"planner": {"method": "policy"}}, [], ["policy", "random"]),  # an actor is what it is
        ({}, ["--set", "method=policy"], ["policy", "random"]),
        ({"learner": "planet", "model": FLAT}, [], ["flat", "random"]),
    ],
)
def test_what_a_model_acts_by_is_measured_where_no_method_is_named(
    walk: TrainConfig, tmp_path: Path, changes: dict[str, Any], words: list[str], played: list[str]
) -> None:
    run = tmp_path / "run"
    finish(Trainer(merge(walk, {"updates": 1, **changes}), run))
    assert main(["evaluate", str(run), "--episodes", "1", "--max-steps", "2", "--threads", "1", *words]) == 0
    assert list(json.loads((run / "results.json").read_text())["methods"]) == played


def test_a_method_that_a_model_does_not_have_is_refused_in_one_line(
    walk: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    finish(Trainer(merge(walk, {"updates": 1, "learner": "planet", "model": FLAT}), run))
    capsys.readouterr()
    assert main(["evaluate", str(run), "--method", "policy", "--threads", "1"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "needs an actor" in said and "expected one of flat" in said


def test_results_that_cannot_be_written_are_shown_and_kept_where_they_can_be(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: bytes) -> None:
        if path.parent == tmp_path:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_atomically(path, content)

    monkeypatch.setattr("thick.commands.evaluate.write_atomically", full)
    arguments = ["evaluate", str(trained), "--episodes", "1", "--max-steps", "2", "--method", "random"]
    assert main([*arguments, "--json", str(tmp_path / "results.json")]) == 1
    shown = capsys.readouterr()
    assert "random" in shown.out and "not written: [Errno 28] No space left" in shown.err
    assert json.loads((trained / "results.json").read_text())["episodes"] == 1


def test_success_within_a_limit_counts_episodes_that_had_succeeded_by_then() -> None:
    episodes = [
        {"success": success, "length": length}
        for success, length in [(True, 60), (True, 61), (False, 5), (None, 5)]
    ]
    assert success_within(episodes, [59, 60, 100]) == {"59": 0.0, "60": 0.25, "100": 0.5}


def test_native_kernels_and_torch_come_to_the_same(trained: Path) -> None:
    results = []
    for backend in ("native", "torch"):
        agent, task, options = load_agent(trained, backend=backend)
        results.append(
            evaluate_agent(
                agent, task, settings=agent.planner, episodes=2, seed=3, max_steps=5, options=options
            )
        )
    assert results[0]["episodes"] == results[1]["episodes"]


def test_what_the_native_kernels_have_no_way_with_runs_in_torch_unless_they_were_asked_for(
    walk: TrainConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    finish(Trainer(merge(walk, {"updates": 1, "model": {"head_layers": 20}}), run))
    assert isinstance(load_agent(run, backend="auto")[0].model, FrozenModel)
    with pytest.raises(ValueError, match="layers"):
        load_agent(run, backend="native")


def test_a_folder_that_is_neither_a_run_nor_an_entry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither a run"):
        load_agent(tmp_path)


def test_settings_in_a_run_are_its_own(trained: Path) -> None:
    agent, _, _ = load_agent(trained)
    assert agent.planner == PlannerSettings().updated(
        {
            "low": "categorical-cem",
            "samples": 16,
            "iterations": 2,
            "elites": 4,
            "horizon": 4,
            "simulations": 4,
        }
    )
