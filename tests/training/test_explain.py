"""What is shown of a model's contexts and jumps, and the page of it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from thick.commands.explain import PLAYERS, run
from thick.explaining import episodes as explaining
from thick.explaining.episodes import EpisodeRecord, HighLevelNeededError, explain
from thick.models.hierarchy.level import HighLevel
from thick.training.alignment import filtered
from thick.training.evaluate import evaluate_agent
from thick.training.runs import load_agent, load_run


def explained(run_folder: Path, **options: object) -> tuple[list[EpisodeRecord], HighLevel]:
    agent, task, env_options = load_agent(run_folder)
    networks = load_run(run_folder)[1]
    return explain(agent, networks, task, env_options=env_options, **options), networks.hierarchy[0]  # type: ignore[arg-type]


def test_gates_and_posterior_are_those_of_the_model_on_what_was_played(trained_once: Path) -> None:
    (record,), level = explained(trained_once, player="random", seed=5, max_steps=30)
    _, networks, _ = load_run(trained_once)
    actions = np.zeros((len(record.actions), 5), np.float32)
    actions[np.arange(1, len(record.actions)), record.actions[1:]] = 1
    first = np.arange(len(record.actions)) == 0
    episode = {
        "observation/observation": np.stack(record.observations),
        "action": actions,
        "is_first": first,
    }
    posterior, is_first = filtered(networks.world, episode)
    changed = (networks.world.dynamics.changes(posterior, is_first) > 0)[0].numpy()  # type: ignore[operator]
    np.testing.assert_array_equal(changed[1:], np.stack(record.gates)[1:])
    assert record.opened and record.changes[0].end == record.opened[0] and record.changes[0].begin == 0
    change = record.changes[-1]
    with torch.no_grad():
        stoch, context = posterior.stoch[0], posterior.context[0]
        begin, end = change.begin, change.end
        q = level.posterior(stoch[begin], context[begin], context[end], stoch[end - 1]).softmax(-1)
        p = level.prior(stoch[begin], context[begin]).softmax(-1)
        time = level.predict(
            stoch[begin].unsqueeze(0), context[begin].unsqueeze(0), torch.eye(level.actions)[1:2]
        ).time
    np.testing.assert_allclose([x.posterior for x in change.predictions], q, atol=1e-5)  # type: ignore[arg-type]
    np.testing.assert_allclose([x.prior for x in change.predictions], p, atol=1e-5)
    assert change.predictions[1].elapsed == pytest.approx(float(time) + 1, abs=1e-4)
    assert change.likely.action == int(q.argmax())
    assert change.predictions[0].before.shape == record.observations[0].shape


def test_the_agent_plays_as_it_is_evaluated(trained_once: Path) -> None:
    (record,), _ = explained(trained_once, seed=3, max_steps=4)
    agent, task, env_options = load_agent(trained_once)
    wanted = evaluate_agent(
        agent, task, settings=agent.planner, episodes=1, seed=3, max_steps=4, options=env_options
    )["episodes"][0]
    assert (len(record.observations) - 1, sum(record.rewards)) == (wanted["length"], wanted["return"])


def test_the_page_needs_nothing_else_and_its_pictures_lie_beside_it(
    trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page"
    words = ["--episodes", "1", "--max-steps", "3", "--threads", "1", "--play", "random", "--out", str(out)]
    assert run([str(trained_once), *words]) == 0
    page = (out / "explain.html").read_text()
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures[0] == "episode-0-0.png" and "episode-0.png" in pictures
    assert page.count("data:image/png;base64,") == len(pictures)
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "context changes at steps: 1" in capsys.readouterr().out


def test_what_cannot_be_explained_is_said(
    trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(tmp_path / "nothing")]) == 2
    assert "neither a run" in capsys.readouterr().err
    flat: Any = SimpleNamespace(model=SimpleNamespace(high=None))
    with pytest.raises(HighLevelNeededError, match="no high level"):
        explain(flat, None, "minigrid:MiniGrid-DoorKey-5x5-v0+map")
    agent, task, _ = load_agent(trained_once)
    with pytest.raises(ValueError, match="expected one of plan, random, scripted, got 'nobody'"):
        explain(agent, None, task, player="nobody")


def test_the_command_knows_who_may_play() -> None:
    assert set(PLAYERS) == set(explaining.PLAYERS)
