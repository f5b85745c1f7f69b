"""Every learner on every kind of task: it trains, resumes exactly, is evaluated, and what it exports acts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from clients.http_client import PlanningClient
from tests.learners.small import SMALL
from tests.service.live import Live
from thick.commands.export import export_run
from thick.configuration import merge
from thick.data.collect import stack_observations
from thick.envs import make
from thick.learners.recipes import RECIPES
from thick.runtimes.torch.agents import load_agent
from thick.training.checkpoint import load_checkpoint
from thick.training.config import TrainConfig, load_config
from thick.training.evaluate import evaluate_agent
from thick.training.trainer import Trainer, resume

TASKS = {
    "minigrid": "minigrid:MiniGrid-DoorKey-5x5-v0+map",
    "dm_control": "dm_control:cartpole-swingup",
    "pinpad": "pinpad:three",
}
ACTS = {
    "planet": {"flat"},
    "dreamer": {"flat", "policy"},
    "thick-planet": {"flat", "hierarchical"},
    "thick-dreamer": {"flat", "hierarchical", "policy"},
    "plan2explore": {"flat", "policy"},
    "director": {"flat", "policy"},
}
"""the methods that each learner's checkpoints claim"""


def config(learner: str, task: str) -> TrainConfig:
    return merge(merge(load_config(f"learners/{learner}"), {"env": TASKS[task]}), SMALL)


def trained(config: TrainConfig, directory: Path, *stops: int) -> dict[str, torch.Tensor]:
    """All tensors of a run that was stopped now and then."""
    trainer = Trainer(config, directory)
    for stop in stops:
        trainer.run(until=stop)
        trainer.close()
        trainer = resume(directory)
    trainer.run()
    trainer.close()
    return load_checkpoint(directory / "checkpoints")[0]


QUICK = ("thick-dreamer", "minigrid")
"""the one that every run of the tests does: it has all parts"""
CASES = [
    pytest.param(learner, task, marks=() if (learner, task) == QUICK else pytest.mark.slow)
    for learner in RECIPES
    for task in TASKS
]


@pytest.mark.parametrize(("learner", "task"), CASES)
def test_a_learner_trains_resumes_is_evaluated_and_what_it_exports_acts(
    learner: str, task: str, tmp_path: Path
) -> None:
    settings = config(learner, task)
    whole = trained(settings, tmp_path / "whole")
    parts = trained(settings, tmp_path / "parts", 2)
    assert whole.keys() == parts.keys()
    assert not [name for name, value in whole.items() if not torch.equal(value, parts[name])]

    entry = export_run(tmp_path / "whole", out=tmp_path / "models")
    agent = load_agent(entry)
    claimed = {method for method in ("hierarchical", "flat", "policy") if agent.has(method)}
    assert claimed == ACTS[learner]
    assert agent.planner.method == settings.planner["method"] in claimed
    for method in sorted(claimed):
        result = evaluate_agent(
            agent,
            TASKS[task],
            settings=agent.settings({"method": method}),
            episodes=1,
            seed=3,
            max_steps=3,
        )
        assert result["episodes"][0]["length"] >= 1

    # An actor is sampled while it collects, and takes its mode when it is evaluated.
    if "policy" in claimed:
        assert settings.data.exploration == 0 and settings.data.planner["temperature"] > 0
        assert agent.planner.temperature == 0
    env = make(TASKS[task])
    observation, _ = env.reset(seed=1)
    arrays = stack_observations([observation], agent.observation_space)
    seen = {key.removeprefix("observation/"): torch.from_numpy(array) for key, array in arrays.items()}
    keys = torch.tensor([1])
    state = agent.observe(agent.initial(1), seen, is_first=torch.tensor([True]), keys=keys)
    (action,) = agent.decode_action(agent.act(state, keys=keys).action)
    env.step(action)
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["minigrid", "dm_control"])
def test_what_every_learner_exports_is_served_and_acts_by_every_method_that_it_claims(
    task: str, tmp_path: Path
) -> None:
    for learner in RECIPES:
        run = tmp_path / learner
        trained(merge(config(learner, task), {"updates": 1, "name": learner}), run)
        export_run(run, out=tmp_path / "models")
    live = Live(tmp_path / "models", store="memory://")
    env = make(TASKS[task])
    try:
        with PlanningClient(live.http) as client:
            served = {model.name: model for model in client.models()}
            assert {name: model.reason for name, model in served.items()} == dict.fromkeys(RECIPES)
            for learner in RECIPES:
                for method in sorted(ACTS[learner]):
                    with client.session(learner, planner={"method": method}) as session:
                        observation, _ = env.reset(seed=2)
                        for _ in range(2):
                            observation, *_ = env.step(session.act(observation))
                for level in ("low", "high") if "hierarchical" in ACTS[learner] else ("low",):
                    imagined = client.imagine(observation, model=learner, level=level, horizon=2, rollouts=2)
                    assert len(imagined.rollouts) == 2
    finally:
        env.close()
        live.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"unimix": 0.01}},
        {"model": {"norm": "rms", "scalars": "twohot"}},
        {"start_state": "stored", "updates": 8},
    ],
    ids=["unimix", "norm and twohot", "stored"],
)
def test_a_learner_in_another_form_than_the_papers_resumes_exactly_and_what_it_exports_acts(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    settings = merge(config(*QUICK), changes)
    whole, parts = trained(settings, tmp_path / "whole"), trained(settings, tmp_path / "parts", 2)
    assert whole.keys() == parts.keys()
    assert not [name for name, value in whole.items() if not torch.equal(value, parts[name])]
    agent = load_agent(export_run(tmp_path / "whole", out=tmp_path / "models"))
    for method in ("hierarchical", "flat", "policy"):
        chosen = agent.settings({"method": method})
        played = evaluate_agent(agent, TASKS[QUICK[1]], settings=chosen, episodes=1, seed=3, max_steps=3)
        assert played["episodes"][0]["length"] >= 1
