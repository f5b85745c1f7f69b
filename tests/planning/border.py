"""A model of torch behind arrays of numpy: what goes in is converted, and what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from thick import pytrees
from thick.agent import Agent
from thick.arrays import NUMPY


def to_torch(value: Any) -> Any:
    """Arrays of numpy in trees as tensors; everything else as it is."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, tuple):
        return pytrees.map_arrays(to_torch, value)
    if isinstance(value, dict):
        return {key: to_torch(part) for key, part in value.items()}
    return value


def to_numpy(value: Any) -> Any:
    """The opposite of :func:`to_torch`."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().copy()
    if isinstance(value, tuple):
        return pytrees.map_arrays(to_numpy, value)
    if isinstance(value, dict):
        return {key: to_numpy(part) for key, part in value.items()}
    return value


class InNumpy:
    """Something with methods over tensors, over arrays of numpy instead.

    Args:
        inner: it; its parts of the names ``exact``, ``search`` and ``high`` are wrapped likewise.
    """

    arrays = NUMPY

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("exact", "search", "high") and found is not None:
            return InNumpy(found)
        if not callable(found):
            return found

        def called(*args: Any, **named: Any) -> Any:
            with torch.no_grad():
                given = [to_torch(each) for each in args]
                return to_numpy(found(*given, **{key: to_torch(each) for key, each in named.items()}))

        return called


def in_numpy(agent: Agent) -> Agent:
    """The same agent over arrays of numpy."""
    return Agent(
        InNumpy(agent.model),
        observation_space=agent.observation_space,
        action_space=agent.action_space,
        planner=agent.planner.to_json(),
    )
