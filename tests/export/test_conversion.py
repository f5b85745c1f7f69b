"""Entries of the first format: the two that are bundled compute what they did before the format changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models import sizes
from thick import conversion
from thick.configuration import build
from thick.data.collect import stack_observations
from thick.envs import make
from thick.models.config import ModelConfig
from thick.runtimes.torch.agents import load_agent

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
BEFORE = json.loads((Path(__file__).parent / "fixtures" / "format1.json").read_text())


def numbers(entry: Path) -> dict[str, Any]:
    """Some of what an agent computes along six steps of an episode."""
    agent = load_agent(entry, precision="fp32")
    assert agent.manifest is not None and agent.manifest.format_version == 1
    env = make(agent.manifest.task, **agent.manifest.configuration.get("env_options", {}))
    observation, _ = env.reset(seed=11)
    state = agent.initial(1)
    for step in range(6):
        arrays = stack_observations([observation], agent.observation_space)
        seen = {key.removeprefix("observation/"): torch.from_numpy(array) for key, array in arrays.items()}
        state = agent.observe(state, seen, is_first=torch.tensor([step == 0]), keys=torch.tensor([step]))
        action: Any = step % 3 if agent.discrete else np.array([0.6 * (-1) ** step], np.float32)
        state = state._replace(previous_action=agent.encode_action([action]))
        observation, *_ = env.step(action)
    belief, high = state.belief, agent.model.levels[0]
    reward, _ = agent.model.exact.outcome(belief)
    jump = high.jump(belief.stoch, belief.context, torch.tensor([2]))
    found: dict[str, Any] = {
        "classes": belief.stoch[0],
        "logits": belief.logits[0, :3],
        "deter": belief.deter[0, :16],
        "context": belief.context[0],
        "reward": reward,
        "prior": high.prior(belief.stoch, belief.context)[0],
        "segment": jump.segment,
        "elapsed": jump.elapsed,
        "arrival": jump.reward,
        "landing": jump.context[0],
        "goal": jump.logits_before[0, :3],
    }
    return {name: array.flatten().tolist() for name, array in found.items()}


@pytest.mark.parametrize("name", list(BEFORE))
def test_a_bundled_entry_computes_what_it_did_before_the_format_changed(name: str) -> None:
    found = numbers(CHECKPOINTS / name / "1")
    for field, values in found.items():
        np.testing.assert_allclose(values, BEFORE[name][field], rtol=1e-4, atol=1e-5, err_msg=field)


def test_every_part_of_an_old_model_has_its_place_in_the_new_one() -> None:
    model = sizes.model(actor_critic=True)
    names = model.state_dict().keys()
    backwards = [(new, old) for old, new in conversion._PREFIXES.items()]

    def old(name: str) -> str:
        for new, before in [*backwards, ("world.", "")]:
            if name.startswith(new):
                return before + name.removeprefix(new)
        raise AssertionError(name)

    assert conversion.tensors({old(name): name for name in names}) == {name: name for name in names}


@pytest.mark.parametrize(
    ("kind", "dynamics", "levels"), [("thick", "crssm", 1), ("crssm", "crssm", 0), ("rssm", "rssm", 0)]
)
def test_a_kind_becomes_a_dynamics_and_a_list_of_levels(kind: str, dynamics: str, levels: int) -> None:
    fields = {
        "kind": kind,
        "stoch": 7,
        "actor_critic": True,
        "high": {"actions": 8, "segment_ends": ["ends"], "time_scale": 0.3, "return_scale": 2.0},
    }
    config = build(ModelConfig, conversion.model_fields(fields))
    assert (config.kind, config.dynamics, len(config.levels)) == (kind, dynamics, levels)
    assert (config.stoch, config.behaviour) == (7, "actor_critic")
    for level in config.levels:
        assert (level.actions, level.segment_ends) == (8, ("ends",))
        assert (level.loss.time, level.loss.returns, level.loss.state) == (0.3, 2.0, 1.0)
