"""Whole acts of an agent on random observations, which tests of several runtimes share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thick.agent import Agent
from thick.pytrees import walk

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
BUNDLED = ("doorkey6", "cartpole")
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


def agree(found: list[Any], wanted: list[Any]) -> None:
    """States in numpy are those in torch, up to rounding."""
    for x, y in zip(found, wanted, strict=True):
        for (leaf, ours), (_, theirs) in zip(walk(x), walk(y), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4, err_msg=leaf)


def identical(found: Any, wanted: Any, what: str) -> None:
    """Two states in numpy are the same bits."""
    for (leaf, x), (_, y) in zip(walk(found), walk(wanted), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=f"{what}: {leaf}")
