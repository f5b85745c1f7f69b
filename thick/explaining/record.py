"""An episode as `thick explain` shows it: what was seen, when gates opened, and what the high level predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np


@dataclass(frozen=True)
class Prediction:
    """Where one high-level action leads from a state."""

    action: int
    """A"""
    prior: float
    """p(A | s)"""
    posterior: float | None
    """q(A | s, c[τ], z[τ-1]), given what really happened; None where the change was none, or nobody can say"""
    before: Any
    """the decoded observation of ẑ[τ-1], before the change"""
    after: Any
    """the decoded observation after it"""
    low_action: Any
    """â, the action that leads into the change, in the environment's form; None where it is not known"""
    elapsed: float
    """steps to τ"""
    segment: float
    """discounted reward up to, not including, τ"""
    reward: float
    """at τ"""
    continuation: float
    """probability that the episode goes on at τ"""


@dataclass(frozen=True)
class Change:
    """A segment of an episode: steps ``begin`` to ``end``, on which the context changed or the episode ended."""

    begin: int
    end: int
    opened: bool
    """whether gates opened at its end"""
    predictions: list[Prediction]
    """from the state at ``begin``, one for each high-level action"""

    @property
    def likely(self) -> Prediction:
        """The most probable one, given what happened where that is known."""
        return max(self.predictions, key=lambda x: x.prior if x.posterior is None else x.posterior)


@dataclass
class EpisodeRecord:
    """An episode, step by step; entry t of each list belongs to observation t."""

    seed: int
    observations: list[Any] = field(default_factory=list)
    frames: list[np.ndarray | None] = field(default_factory=list)
    """what the environment renders, uint8 [h, w, 3]"""
    actions: list[Any] = field(default_factory=list)
    """that led to the observation; None for the first"""
    rewards: list[float] = field(default_factory=list)
    events: list[list[str]] = field(default_factory=list)
    gates: list[np.ndarray] = field(default_factory=list)
    """bool [C], which opened; C = 1 where only whether any did is known"""
    ended: bool = False
    """by itself, not cut"""
    success: bool | None = None
    changes: list[Change] = field(default_factory=list)

    @property
    def opened(self) -> list[int]:
        """Steps on which a gate opened, without the first, on which the context is written from nothing."""
        return [step for step, gates in enumerate(self.gates) if step and gates.any()]


@dataclass(frozen=True)
class Explanation:
    """Episodes, and what a page says of them."""

    episodes: Sequence[EpisodeRecord]
    space: gymnasium.Space
    """of observations"""
    heading: str
    note: str
    names: Sequence[str] | None
    """of discrete actions"""
    out: Path
    """where the page goes"""


def rendered(env: Any) -> np.ndarray | None:
    """What the environment renders, where it does."""
    if getattr(env, "render_mode", None) != "rgb_array":
        return None
    frame = env.render()
    return None if frame is None else np.asarray(frame)
