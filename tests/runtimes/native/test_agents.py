"""Whole acts of the bundled models in the native runtime: as in torch, the same bits everywhere, and without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thick.agent import Agent
from thick.pytrees import walk
from thick.runtimes.native import library
from thick.runtimes.native.agents import load_agent
from thick.runtimes.torch.agents import load_agent as load_torch_agent

CHECKPOINTS = Path(__file__).resolve().parents[3] / "checkpoints"
SMALL: dict[str, Any] = {"samples": 24, "iterations": 2, "elites": 6, "horizon": 5, "simulations": 8}


def observed(agent: Agent[Any], step: int, batch: int) -> Any:
    """Random observations ``[B, ...]``."""
    agent.observation_space.seed(step)
    drawn = [agent.observation_space.sample() for _ in range(batch)]
    if isinstance(drawn[0], dict):
        return {key: np.stack([each[key] for each in drawn]) for key in drawn[0]}
    return np.stack(drawn)


def acts(agent: Agent[Any], steps: int, batch: int, convert: Any = lambda x: x, **changes: Any) -> list[Any]:
    """States after some acts."""
    settings = agent.settings({**SMALL, **changes})
    state, found = agent.initial(batch), []
    for step in range(steps):
        keys = convert(np.arange(batch) + 7 * step)
        seen = observed(agent, step, batch)
        seen = {k: convert(v) for k, v in seen.items()} if isinstance(seen, dict) else convert(seen)
        state = agent.observe(state, seen, is_first=convert(np.full(batch, step == 0)), keys=keys)
        state = agent.act(state, settings, keys=keys).state
        found.append(state)
    return found


@pytest.mark.parametrize("name", ["doorkey6", "cartpole"])
def test_a_bundled_model_acts_as_in_torch(name: str) -> None:
    entry = CHECKPOINTS / name / "1"
    with torch.inference_mode():
        wanted = acts(load_torch_agent(entry, precision="fp32"), 3, 2, torch.from_numpy, stochastic=False)
    found = acts(load_agent(entry), 3, 2, stochastic=False)
    for x, y in zip(found, wanted, strict=True):
        for (leaf, ours), (_, theirs) in zip(walk(x), walk(y), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4, err_msg=leaf)


@pytest.mark.parametrize("name", ["doorkey6", "cartpole"])
def test_an_act_is_the_same_bits_in_any_batch_and_with_every_instruction_set(name: str) -> None:
    agent = load_agent(CHECKPOINTS / name / "1")
    small: dict[str, Any] = {"samples": 8, "horizon": 3, "simulations": 3}
    best = acts(agent, 2, 2, **small)[-1]
    alone = acts_of_the_first(agent, **small)
    for (leaf, x), (_, y) in zip(walk(best), walk(alone), strict=True):
        np.testing.assert_array_equal(x[:1], y, err_msg=leaf)
    for other in library.available():
        with library.using(other):
            found = acts(load_agent(CHECKPOINTS / name / "1"), 2, 2, **small)[-1]
        for (leaf, x), (_, y) in zip(walk(best), walk(found), strict=True):
            np.testing.assert_array_equal(x, y, err_msg=f"{other}: {leaf}")


def acts_of_the_first(agent: Agent[Any], **changes: Any) -> Any:
    """As :func:`acts` of two sessions, but the first of them by itself."""
    settings = agent.settings({**SMALL, **changes})
    state = agent.initial(1)
    for step in range(2):
        keys = np.array([7 * step])
        seen = observed(agent, step, 2)
        seen = {k: v[:1] for k, v in seen.items()} if isinstance(seen, dict) else seen[:1]
        state = agent.observe(state, seen, is_first=np.array([step == 0]), keys=keys)
        state = agent.act(state, settings, keys=keys).state
    return state


def test_an_agent_loads_and_acts_without_torch() -> None:
    code = (
        "import sys, numpy as np, pathlib; sys.modules['torch'] = None\n"
        "from thick.runtimes.native.agents import load_agent\n"
        f"agent = load_agent(pathlib.Path({str(CHECKPOINTS / 'doorkey6' / '1')!r}))\n"
        "seen = np.zeros((1, *agent.observation_space.shape), np.uint8)\n"
        "keys, settings = np.array([1]), agent.settings({'samples': 8, 'horizon': 3, 'simulations': 3})\n"
        "state = agent.observe(agent.initial(1), seen, is_first=np.array([True]), keys=keys)\n"
        "print(agent.act(state, settings, keys=keys).action.shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKPOINTS.parent
    )
    assert done.stdout.strip() == "(1, 5)", done.stderr
