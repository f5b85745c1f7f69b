"""What imagination reports, step by step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

_API_NAMES = {"segment_return": "return"}


class HighStep(NamedTuple):
    """One jump of R rollouts, up to just after the next context change."""

    high_action: np.ndarray
    """[R] int64"""
    probability: np.ndarray
    """[R] of the action under the prior p(A | s)"""
    duration: np.ndarray
    """[R] predicted steps of the jump"""
    time: np.ndarray
    """[R] steps since the start of the rollout"""
    reward: np.ndarray
    """[R] received with the change"""
    segment_return: np.ndarray
    """[R] discounted return of the jump, with that reward; the API calls it ``return``"""
    value: np.ndarray
    """[R] expected return after the change"""
    continuation: np.ndarray
    """[R] probability that the episode goes on"""
    subgoal: Any
    """[R, ...] decoded just before the change"""
    observation: Any
    """[R, ...] decoded just after"""
    rollout_probability: np.ndarray
    """[R] product of the probabilities so far"""
    rollout_return: np.ndarray
    """[R] discounted return so far"""

    def fields(self) -> dict[str, Any]:
        """The step by the names of the API."""
        return {_API_NAMES.get(name, name): value for name, value in self._asdict().items()}


class LowStep(NamedTuple):
    """One step of R rollouts."""

    action: np.ndarray
    """[R] int64, or [R, A] float32"""
    reward: np.ndarray
    """[R]"""
    value: np.ndarray
    """[R] expected return from here on by the critic; NaN without one"""
    continuation: np.ndarray
    """[R] probability that the episode goes on"""
    gates_open: np.ndarray
    """[R] int64, how many gates opened"""
    context_changed: np.ndarray
    """[R] bool"""
    observation: Any
    """[R, ...] decoded"""
    rollout_probability: np.ndarray
    """[R] product of the probabilities of the actions so far"""
    rollout_return: np.ndarray
    """[R] discounted return so far"""

    def fields(self) -> dict[str, Any]:
        """The step by the names of the API."""
        return self._asdict()


ImaginedStep = HighStep | LowStep
