"""Where the states of live sessions live: rows that the runtime keeps, counted here.

A row never changes after it was written: an act writes its new state into a fresh row and the session swaps
to it once the answer is durable. So a failed act changes nothing, a fork is a second reference to a row,
and imagining reads a row that nobody can move underneath it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from thick.runtimes.protocol import Rows, Runtime, State

CAPACITY = 64
"""rows at the start; doubled whenever they are all held"""


class SlotTable:
    """Which rows of a runtime are held, and how often. Written by the engine's worker, counted from anywhere.

    Args:
        runtime: whose sessions these are.
        capacity: rows at the start.
    """

    def __init__(self, runtime: Runtime, capacity: int = CAPACITY) -> None:
        self.layout = runtime.layout
        self._rows: Rows = runtime.rows(capacity)
        self._free = list(range(capacity - 1, -1, -1))
        self._references = [0] * capacity
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Rows that somebody holds."""
        return len(self._references) - len(self._free)

    def keep(self, state: State, count: int) -> tuple[list[int], np.ndarray]:
        """Pack a batch of ``count`` states into free slots.

        Returns:
            The slots, each held once by the caller, and the same bytes ``[B, row_bytes]``.
        """
        slots = self._take(count)
        try:
            return slots, self._rows.keep(slots, state)
        except BaseException:
            self._give_back(slots)
            raise

    def put(self, rows: np.ndarray) -> list[int]:
        """Write packed states ``[B, row_bytes]`` into free slots and return these, each held once by the caller."""
        slots = self._take(len(rows))
        try:
            self._rows.write(slots, rows)
        except BaseException:
            self._give_back(slots)
            raise
        return slots

    def states(self, slots: Sequence[int]) -> State:
        """The states in these slots, as the runtime has them."""
        return self._rows.states(slots)

    def row(self, slot: int) -> np.ndarray:
        """A copy ``[row_bytes]`` of one row."""
        copied: np.ndarray = self._rows.read([slot])[0]
        return copied

    def read(self, slots: Sequence[int]) -> np.ndarray:
        """A copy ``[B, row_bytes]`` of the rows in these slots."""
        return self._rows.read(slots)

    def retain(self, slot: int) -> int:
        """Hold a slot once more."""
        with self._lock:
            if not self._references[slot]:
                raise ValueError(f"slot {slot} is free: it cannot be held again")
            self._references[slot] += 1
        return slot

    def release(self, slot: int) -> None:
        """Give a slot back; it is free once nobody holds it."""
        with self._lock:
            if not self._references[slot]:
                raise ValueError(f"slot {slot} is free already")
            self._references[slot] -= 1
            if not self._references[slot]:
                self._free.append(slot)

    def _take(self, count: int) -> list[int]:
        with self._lock:
            if len(self._free) < count:
                self._grow(count)
            slots = [self._free.pop() for _ in range(count)]
            for slot in slots:
                self._references[slot] = 1
        return slots

    def _give_back(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self.release(slot)

    def _grow(self, count: int) -> None:
        """Double the table until there is room: rare, since it never shrinks."""
        size = wanted = len(self._references)
        while wanted - size + len(self._free) < count:
            wanted *= 2
        self._rows.grow(wanted)
        self._free[:0] = range(wanted - 1, size - 1, -1)
        self._references.extend([0] * (wanted - size))


def as_row(state: bytes, row_bytes: int) -> np.ndarray:
    """A stored state as ``[1, row_bytes]`` for :meth:`SlotTable.put`.

    Raises:
        ValueError: it has another length.
    """
    if len(state) != row_bytes:
        raise ValueError(f"a row of this model has {row_bytes} bytes, got {len(state)}")
    return np.frombuffer(state, np.uint8).reshape(1, row_bytes)
