"""What imagination is asked, and what both levels share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from thick.arrays import Array, of
from thick.planning.actions import Actions
from thick.planning.memory import AgentState
from thick.planning.protocols import AgentModel
from thick.planning.randomness import Randomness
from thick.planning.settings import PlannerSettings


class ImaginingAgent(Protocol):
    """What imagination asks of an agent (:class:`thick.agent.Agent`)."""

    @property
    def model(self) -> AgentModel:
        """What imagines."""

    @property
    def actions(self) -> Actions:
        """The kind of actions."""

    @property
    def action_space(self) -> gymnasium.Space:
        """As the API has it."""

    @property
    def discrete(self) -> bool:
        """Whether they are discrete."""

    def has(self, method: str) -> bool:
        """Whether the checkpoint can plan by a method."""

    def encode_action(self, actions: Sequence[Any]) -> Array:
        """Actions as the API gives them -> ``[B, A]``."""

    def decode_action(self, action: Array) -> list[Any]:
        """The opposite."""


class Asked(NamedTuple):
    """What to imagine; see :func:`thick.imagination.imagine`."""

    agent: ImaginingAgent
    state: AgentState
    horizon: int
    rollouts: int
    """R"""
    policy: str
    randomness: Randomness
    settings: PlannerSettings


def rectangle(actions: Sequence[Any]) -> np.ndarray:
    """Given actions as an array.

    Raises:
        ValueError: they are lists of different lengths.
    """
    try:
        return np.asarray(actions)
    except ValueError as error:
        raise ValueError(f"actions: expected lists of the same length, got {actions!r}") from error


def is_first(rollouts: int, like: Array) -> Array:
    """``[R]`` bool, true for the rollout that takes modes."""
    return of(like).arange(rollouts) == 0


def numpy_of(observation: Any) -> Any:
    """An array, or a dict of arrays, in numpy."""
    if isinstance(observation, Mapping):
        return {key: numpy_of(value) for key, value in observation.items()}
    return of(observation).numpy(observation)
