"""What planning costs on this machine, learned from what it did cost: so that a search stops in time.

Kept for each model and planner settings, since a slice of one search may take a hundred times that of
another.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

WEIGHT = 0.3
"""of the newest measurement in the running means"""
CAUTION = 1.15
"""a slice is assumed to take this much longer than usual: a late answer is worse than one slice less"""
KNOWN = 512
"""settings remembered; the least recently used go first"""


class Running:
    """An exponentially weighted mean."""

    __slots__ = ("mean",)

    def __init__(self) -> None:
        self.mean: float | None = None

    def add(self, value: float) -> None:
        self.mean = value if self.mean is None else self.mean + WEIGHT * (value - self.mean)


class Record:
    """Costs of one model under one planner settings."""

    __slots__ = ("slices", "total")

    def __init__(self) -> None:
        self.slices: dict[tuple[int, int], Running] = {}
        """(sessions rounded up to a power of two, slice rounded down to one) -> s; a plan's slices differ"""
        self.total: dict[int, Running] = {}
        """sessions rounded up -> s of a whole plan"""


class CostModel:
    """Predictions of the engine; used by its worker alone."""

    def __init__(self) -> None:
        self._records: OrderedDict[tuple[Any, Any], Record] = OrderedDict()
        self._work: dict[Any, Running] = {}

    def slice_took(self, model: Any, settings: Any, sessions: int, index: int, seconds: float) -> None:
        """Learn from one slice."""
        record = self._record(model, settings)
        record.slices.setdefault((_up(sessions), _down(index)), Running()).add(seconds)
        self._work.setdefault(model, Running()).add(seconds / (sessions * _work(settings)))

    def plan_took(self, model: Any, settings: Any, sessions: int, seconds: float) -> None:
        """Learn from one whole plan."""
        self._record(model, settings).total.setdefault(_up(sessions), Running()).add(seconds)

    def next_slice(self, model: Any, settings: Any, sessions: int, index: int) -> float:
        """How long the next slice may take, s; 0 where nothing like it has been seen."""
        record = self._records.get((model, settings))
        if record is not None and record.slices:
            found = record.slices.get((_up(sessions), _down(index)))
            if found is None or found.mean is None:
                near = min(
                    record.slices, key=lambda at: (abs(at[0] - _up(sessions)), abs(at[1] - _down(index)))
                )
                mean = (record.slices[near].mean or 0.0) * max(1.0, _up(sessions) / near[0])
            else:
                mean = found.mean
            return CAUTION * mean
        work = self._work.get(model)
        if work is None or work.mean is None:
            return 0.0
        return CAUTION * work.mean * sessions * _work(settings)

    def total(self, model: Any, settings: Any) -> float | None:
        """How long a whole plan of one session takes, s; None where nothing like it has been seen."""
        record = self._records.get((model, settings))
        if record is None or not record.total:
            return None
        return record.total[min(record.total)].mean

    def forget(self, model: Any) -> None:
        """Drop everything about a model that was unloaded."""
        for at in [at for at in self._records if at[0] is model]:
            del self._records[at]
        self._work.pop(model, None)

    def _record(self, model: Any, settings: Any) -> Record:
        record = self._records.setdefault((model, settings), Record())
        self._records.move_to_end((model, settings))
        while len(self._records) > KNOWN:
            self._records.popitem(last=False)
        return record


def _work(settings: Any) -> float:
    """What a slice of a search is proportional to: candidates times steps."""
    return float(getattr(settings, "samples", 1) * getattr(settings, "horizon", 1))


def _up(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _down(number: int) -> int:
    return 0 if number <= 0 else 1 << (number.bit_length() - 1)
