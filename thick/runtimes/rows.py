"""Rows of live sessions in the memory of the host, for runtimes whose states live there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from thick.runtimes.protocol import Runtime


class HostRows:
    """See :class:`thick.runtimes.protocol.Rows`."""

    def __init__(self, runtime: Runtime, capacity: int) -> None:
        self._runtime = runtime
        self._rows = np.zeros((capacity, runtime.layout.row_bytes), np.uint8)

    @property
    def capacity(self) -> int:
        return len(self._rows)

    def grow(self, capacity: int) -> None:
        more = np.zeros((capacity - len(self._rows), self._rows.shape[1]), np.uint8)
        self._rows = np.concatenate([self._rows, more])

    def keep(self, at: Sequence[int], state: Any) -> np.ndarray:
        rows = self._runtime.pack(state)
        self._rows[list(at)] = rows
        return rows

    def write(self, at: Sequence[int], rows: np.ndarray) -> None:
        self._rows[list(at)] = rows

    def read(self, at: Sequence[int]) -> np.ndarray:
        return self._rows[at[0]][None].copy() if len(at) == 1 else self._rows[list(at)]

    def states(self, at: Sequence[int]) -> Any:
        return self._runtime.unpack(self.read(at))
