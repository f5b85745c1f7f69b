"""Weights and rates that change over the updates of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thick.configuration import RECORD, Index, Weight


@dataclass(frozen=True)
class Schedule:
    """A weight over time: constant until ``ramp_from``, then geometric to ``final`` at ``ramp_to``."""

    __pydantic_config__: ClassVar = RECORD
    start: Weight = 1.0
    """weight in the beginning"""
    final: Weight = 1.0
    """weight in the end"""
    ramp_from: Index = 0
    """update at which it begins to change"""
    ramp_to: Index = 0
    """update from which on it stays"""

    def __post_init__(self) -> None:
        if self.start != self.final and self.ramp_to > 0 and not (self.start and self.final):
            raise ValueError(
                f"start {self.start:g}, final {self.final:g}: a geometric ramp cannot begin or end at 0; give a small "
                "number, or ramp_to 0"
            )

    def at(self, update: int) -> float:
        """The weight at an update."""
        if update >= self.ramp_to or self.start == self.final:
            return self.final
        if update <= self.ramp_from:
            return self.start
        share = (update - self.ramp_from) / (self.ramp_to - self.ramp_from)
        return float(self.start * (self.final / self.start) ** share)
