"""Agents with tiny, random models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.models.sizes import ACTIONS, SINGLE, SPACES, model, observations
from thick import pytrees
from thick.agent import Agent, AgentState
from thick.planning.settings import session_key
from thick.runtimes.torch.agents import torch_agent

BUDGET = {"samples": 24, "iterations": 2, "elites": 6, "horizon": 4, "simulations": 12, "depth": 4}


def agent(
    observation: str = "vector",
    action: str = "discrete",
    *,
    planner: dict[str, Any] | None = None,
    precision: str = "fp32",
    seed: int = 0,
    **changes: Any,
) -> Agent:
    """An agent of a tiny model; ``changes`` are of its configuration."""
    world = model(SPACES[observation], ACTIONS[action], seed, **changes)
    return torch_agent(world, planner={**BUDGET, **(planner or {})}, precision=precision)


def seen(of: Agent, *leading: int, seed: int = 0) -> Tensor | dict[str, Tensor]:
    """Random observations in the form that an agent takes."""
    arrays = observations(of.observation_space, *leading, seed=seed)
    return arrays[SINGLE] if set(arrays) == {SINGLE} else arrays


def keys(batch: int, step: int = 0) -> Tensor:
    """Keys of sessions 0 … B-1."""
    return torch.tensor([session_key(session, step) for session in range(batch)])


def started(of: Agent, batch: int, *, seed: int = 0) -> AgentState:
    """States after a first observation."""
    first = torch.ones(batch, dtype=torch.bool)
    return of.observe(of.initial(batch), seen(of, batch, seed=seed), is_first=first, keys=keys(batch))


def row(tree: Any, index: int) -> Any:
    """One session of a batch."""
    return pytrees.map_arrays(lambda x: x[index : index + 1], tree)


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree."""
    found: list[Tensor] = []
    pytrees.map_arrays(lambda x: found.append(x) or x, tree)
    return found


def same(tree: Any, other: Any) -> bool:
    """Whether two trees hold exactly the same numbers."""
    return all(
        x.shape == y.shape and torch.equal(torch.nan_to_num(x), torch.nan_to_num(y))
        for x, y in zip(leaves(tree), leaves(other), strict=True)
    )
