"""What actions are, inside a model."""

from __future__ import annotations

from typing import NamedTuple

from thick.arrays import Array, of


class ActionRange:
    """Bounds of a continuous action; unbounded dimensions count as a range of [-1, 1] that is never clipped.

    Args:
        low, high: ``[A]``.
    """

    def __init__(self, low: Array, high: Array) -> None:
        self.low, self.high = low, high
        xp = of(low)
        bounded = xp.isfinite(low) & xp.isfinite(high)
        # Halves first: the widest finite range has no width in float32.
        self.middle = xp.where(bounded, low / 2 + high / 2, 0.0)
        self.half = xp.where(bounded, high / 2 - low / 2, 1.0)

    def clip(self, actions: Array) -> Array:
        """Actions ``[..., A]`` within the bounds."""
        xp = of(actions)
        return xp.minimum(xp.maximum(actions, self.low), self.high)


class Actions(NamedTuple):
    """The kind of actions."""

    size: int
    """A"""
    bounds: ActionRange | None
    """of continuous actions; None where they are discrete"""
