"""Episodes that are under way, so that they can go on in another process.

Environments cannot be saved in general. What can be saved is how an episode came to be: the seed of its reset and the
actions since. Where an environment is deterministic, playing them again leads to the same place; whether it did is
seen from a digest of everything that it answered.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from thick.data.finite import check_answer


@dataclass
class Episode:
    """One episode, running or over."""

    seed: int | None = None
    """of its reset"""
    actions: list[Any] = field(default_factory=list)
    """since its reset, in the environment's own form"""
    digest: bytes = b""
    """of all that the environment answered, in order"""
    total: float = 0.0
    success: bool | None = None
    events: Counter[str] = field(default_factory=Counter)

    @property
    def length(self) -> int:
        """Steps since the reset."""
        return len(self.actions)

    def answered(
        self,
        observation: dict[str, np.ndarray],
        *,
        reward: float = 0.0,
        over: bool = False,
        info: dict[str, Any],
        where: str,
    ) -> None:
        """Count one answer of the environment.

        Args:
            observation: its arrays, each with a leading dimension of 1.
            reward, over, info: as the environment gave them; ``events`` and ``success`` of info are counted.
            where: what to say of an answer that is not finite.

        Raises:
            NotFiniteError: observation or reward is NaN or infinite.
        """
        check_answer({**observation, "reward": np.array([reward])}, 0, where=where)
        content = hashlib.blake2b(self.digest, digest_size=16)
        for name in sorted(observation):
            content.update(np.ascontiguousarray(observation[name]).data)
        content.update(np.array([reward, over], np.float64).data)
        self.digest = content.digest()
        self.total += reward
        if self.actions:
            self.events.update(info.get("events", ()))
            if "success" in info:
                self.success = bool(info["success"])

    def summary(self) -> dict[str, Any]:
        """Return, length, success and events."""
        return {
            "return": self.total,
            "length": self.length,
            "success": self.success,
            "events": dict(self.events),
        }

    def to_json(self, action_space: gymnasium.Space) -> dict[str, Any]:
        """What :meth:`thick.data.collect.Collector.restore` plays again."""
        return {
            "seed": self.seed,
            "actions": action_space.to_jsonable(self.actions),
            "digest": self.digest.hex(),
        }


def actions_from_json(actions: list[Any], space: gymnasium.Space) -> list[Any]:
    """The actions of :meth:`Episode.to_json`, as they were."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return [int(action) for action in actions]
    return list(space.from_jsonable(actions))
