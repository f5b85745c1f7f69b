"""Actions as environments have them, and as a model sees them: one-hot, or numbers in [-1, 1]. Free of torch.

A MultiDiscrete or MultiBinary is one choice among all combinations, which is exact; a Box is flattened and scaled by
its bounds, and whole numbers are rounded on the way out.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import gymnasium

Array = np.ndarray[Any, Any]

MOST_CHOICES = 1024
"""of a discrete action; a search has to try them"""


class ActionCodec:
    """Actions of one space.

    Args:
        space: gymnasium's Discrete, MultiDiscrete, MultiBinary or Box.

    Raises:
        ValueError: no action that a planner here can choose; the message says what to do.
    """

    size: int
    """A, of an action inside the model: the number of choices, or of numbers"""
    discrete: bool
    """one choice among ``size``"""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        kind = type(space).__name__
        parts: Any = space
        self.shape: tuple[int, ...] = tuple(space.shape or ())
        self.dtype = np.dtype(space.dtype or np.int64)
        self.discrete = kind in ("Discrete", "MultiDiscrete", "MultiBinary")
        if kind == "Discrete":
            self._sizes: tuple[int, ...] = (int(parts.n),)
            self._starts = np.asarray([parts.start], np.int64)
        elif kind == "MultiDiscrete":
            self._sizes, self._starts = tuple(parts.nvec.ravel().tolist()), parts.start.ravel()
        elif kind == "MultiBinary":
            count = math.prod(self.shape)
            self._sizes, self._starts = (2,) * count, np.zeros(count, np.int64)
        elif kind == "Box":
            self._box(parts)
            return
        else:
            raise ValueError(
                f"action space: {kind} actions cannot be planned; expected a Discrete, MultiDiscrete, MultiBinary or "
                "Box: wrap the environment so that it takes one of them"
            )
        self.size = math.prod(self._sizes)
        if not 1 <= self.size <= MOST_CHOICES:
            raise ValueError(
                f"action space: {self.size} choices are too many to search (at most {MOST_CHOICES}): wrap the "
                "environment so that it offers fewer"
            )

    def _box(self, space: Any) -> None:
        self.size = math.prod(self.shape)
        if self.size == 0:
            raise ValueError(f"action space: a Box of shape {self.shape} holds no numbers")
        if self.dtype.kind not in "fiu":
            raise ValueError(f"action space: a Box of {self.dtype} cannot be planned; take a MultiBinary")
        self.low, self.high = (bound.astype(np.float64).ravel() for bound in (space.low, space.high))
        width = self.high - self.low
        if not np.isfinite(width).all() or (width > np.finfo(np.float32).max).any():
            at = int(np.argmax(~np.isfinite(width) | (width > np.finfo(np.float32).max)))
            raise ValueError(
                f"action space: action {at} goes from {self.low[at]:g} to {self.high[at]:g}, and a planner needs a "
                "range: give --env_options '{action_bounds: [-1, 1]}' (or bounds for each), or wrap the environment"
            )
        self._centre, self._half = (self.low + self.high) / 2, width / 2

    def encode(self, actions: Sequence[Any]) -> Array:
        """Actions in the environment's form -> float32 ``[N, A]``; None becomes zeros.

        Raises:
            ValueError: an action does not belong to the space.
        """
        encoded = np.zeros((len(actions), self.size), np.float32)
        if (
            self.discrete
            and not self.shape
            and len(actions) > 1
            and {type(action) for action in actions} == {int}
        ):
            chosen = np.asarray(actions) - self._starts
            if ((chosen >= 0) & (chosen < self.size)).all():  # many at once
                encoded[np.arange(len(actions)), chosen] = 1
                return encoded
        if not self.discrete and len(actions) > 1 and (many := self._inside_all(actions)) is not None:
            return many
        for row, action in enumerate(actions):
            if action is not None:
                if self.discrete:
                    encoded[row, self._index(action)] = 1
                else:
                    encoded[row] = self._inside(action)
        return encoded

    def decode(self, actions: Array) -> list[Any]:
        """``[N, A]`` -> actions in the environment's form: integers, or arrays of the space's shape and dtype."""
        if not self.discrete:
            outside = self._centre + self._half * np.asarray(actions, np.float64)
            outside = np.clip(outside, self.low, self.high)
            if self.dtype.kind != "f":
                outside = np.rint(outside)
            return list(outside.reshape(-1, *self.shape).astype(self.dtype))
        chosen = np.asarray(actions).argmax(-1)
        if not self.shape:
            return [int(index) + int(self._starts[0]) for index in chosen]
        parts = np.stack(np.unravel_index(chosen, self._sizes), -1) + self._starts
        return list(parts.reshape(-1, *self.shape).astype(self.dtype))

    def sample(self, rng: np.random.Generator) -> Any:
        """A uniform action in the environment's form."""
        if self.discrete:
            hot = np.zeros((1, self.size), np.float32)
            hot[0, rng.integers(self.size)] = 1
            return self.decode(hot)[0]
        return self.decode(rng.uniform(-1, 1, (1, self.size)))[0]

    def _index(self, action: Any) -> int:
        try:
            values = np.asarray(action)
        except ValueError as error:
            raise ValueError(f"action: expected {self._expected()}, got {action!r}") from error
        whole = values.dtype.kind in "iu" or (
            isinstance(action, numbers.Integral) and not isinstance(action, bool)
        )
        places = values.reshape(-1) - self._starts if whole and values.shape == self.shape else None
        if places is None or (places < 0).any() or (places >= self._sizes).any():
            raise ValueError(f"action: expected {self._expected()}, got {action!r}")
        return int(np.ravel_multi_index(tuple(places), self._sizes))

    def _inside_all(self, actions: Sequence[Any]) -> Array | None:
        """Many at once, where all of them are arrays that belong to the space."""
        if {(getattr(each, "shape", None), getattr(each, "dtype", None)) for each in actions} != {
            (self.shape, self.dtype)
        }:
            return None
        values = np.asarray(actions, np.float64).reshape(len(actions), -1)
        return self._scaled(values) if np.isfinite(values).all() else None

    def _scaled(self, values: Array) -> Array:
        half = np.where(self._half > 0, self._half, 1.0)
        return ((values - self._centre) / half).astype(np.float32)

    def _inside(self, action: Any) -> Array:
        try:
            values = np.asarray(action, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"action: expected {self._expected()}, got {action!r}") from error
        if values.shape != self.shape or not np.isfinite(values).all():
            raise ValueError(f"action: expected {self._expected()}, got {action!r}")
        return self._scaled(values.ravel())

    def _expected(self) -> str:
        if not self.discrete:
            shape = "" if len(self.shape) == 1 else f" of shape {self.shape}"
            return f"{self.size} finite numbers{shape}"
        if not self.shape:
            first = int(self._starts[0])
            return f"a whole number from {first} to {first + self.size - 1}"
        return f"whole numbers of shape {self.shape} within the space"
