"""What planning costs on this machine, learned from what it did cost: so that a search stops in time.

Kept for each model and planner settings, since a slice of one search may take a hundred times that of another. What
has not been seen is assumed to be quick: one late answer teaches more than a search that is never tried.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

MEMORY = 7
"""measurements that an estimate is the median of: a hiccup of the machine is outvoted"""
VOTES = 3
"""measurements that make a median"""
FORGIVING = 0.95
"""an estimate that kept a search from starting shrinks by this factor, so that it is tried again some time"""
KNOWN = 512
"""settings remembered; the least recently used are evicted first"""


class Estimate:
    """The median of the last measurements; less while there are too few to vote, for what runs for the first time
    pays for much that it never pays again."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=MEMORY)

    def add(self, seconds: float) -> None:
        """Learn from one measurement."""
        self._seen.append(seconds)

    @property
    def seconds(self) -> float:
        """The estimate, s."""
        ordered = sorted(self._seen)
        return (
            ordered[len(ordered) // 2] if len(ordered) >= VOTES else ordered[0] * len(ordered) / (VOTES + 1)
        )

    def forgive(self) -> None:
        """Make the estimate a little smaller."""
        self._seen = deque((seconds * FORGIVING for seconds in self._seen), maxlen=MEMORY)


class CostRecord:
    """Costs of one model under one planner settings."""

    __slots__ = ("_slices", "_total")

    def __init__(self) -> None:
        self._slices: dict[tuple[int, int], Estimate] = {}
        """by sessions (rounded up to a power of two) and slice (rounded down to one): a plan's slices differ"""
        self._total: dict[int, Estimate] = {}
        """of a whole plan, by sessions rounded up"""

    def slice_took(self, sessions: int, index: int, seconds: float) -> None:
        """Learn from one slice."""
        at = (_up(sessions), _down(index))
        found = self._slices.get(at)
        if found is None:
            found = self._slices[at] = Estimate()
        found.add(seconds)

    def plan_took(self, sessions: int, seconds: float) -> None:
        """Learn from one whole plan."""
        self._total.setdefault(_up(sessions), Estimate()).add(seconds)

    def next_slice(self, sessions: int, index: int) -> float:
        """How long the next slice may take, s; 0 where nothing like it has been seen."""
        if not self._slices:
            return 0.0
        batch, at = _up(sessions), _down(index)
        found = self._slices.get((batch, at))
        if found is not None:
            return found.seconds
        near = min(self._slices, key=lambda each: (abs(each[0] - batch), abs(each[1] - at)))
        # A batch costs at most its sessions' share of a smaller one.
        return self._slices[near].seconds * max(1.0, batch / near[0])

    def forgive(self) -> None:
        """No slice was run for fear of being late."""
        for estimate in self._slices.values():
            estimate.forgive()

    @property
    def total(self) -> float | None:
        """What a whole plan of one session costs, s; None where nothing like it has been seen."""
        if not self._total:
            return None
        sessions = min(self._total)
        return self._total[sessions].seconds / sessions


class CostModel:
    """Predictions of the engine; used by one thread at a time."""

    def __init__(self) -> None:
        self._records: OrderedDict[tuple[Any, Any], CostRecord] = OrderedDict()
        self._observing: dict[Any, dict[int, Estimate]] = {}

    def record(self, model: Any, settings: Any) -> CostRecord:
        """What is known of a model under settings, and learns more."""
        record = self._records.get((model, settings))
        if record is None:
            record = self._records[model, settings] = CostRecord()
        self._records.move_to_end((model, settings))
        while len(self._records) > KNOWN:
            self._records.popitem(last=False)
        return record

    def total(self, model: Any, settings: Any) -> float | None:
        """What a whole plan of one session costs, s; None where nothing like it has been seen."""
        record = self._records.get((model, settings))
        return None if record is None else record.total

    def observe_took(self, model: Any, sessions: int, seconds: float) -> None:
        """Learn from observing a batch."""
        self._observing.setdefault(model, {}).setdefault(_up(sessions), Estimate()).add(seconds)

    def observing(self, model: Any) -> float | None:
        """What observing for one session alone costs, s; None where that has not been seen."""
        seen = self._observing.get(model, {}).get(1)
        return None if seen is None else seen.seconds

    def forget(self, model: Any) -> None:
        """Drop everything about a model that was unloaded."""
        for at in [at for at in self._records if at[0] is model]:
            del self._records[at]
        self._observing.pop(model, None)


def _up(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _down(number: int) -> int:
    return 0 if number <= 0 else 1 << (number.bit_length() - 1)
