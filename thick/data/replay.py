"""A replay ring of contiguous streams, in memory or memory-mapped on disk.

One stream is one environment's life: episode after episode without gaps, so that a window may cross episodes
and even the shortest episode is learned from. A folder with ``replay.json`` and one ``.npy`` a field is at
the same time a ring, a saved ring and an offline data set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thick.files import write_atomically

_DESCRIPTION = "replay.json"


@dataclass(frozen=True)
class Field:
    """Shape and dtype of one entry of a step."""

    shape: tuple[int, ...]
    dtype: str


class ReplayRing:
    """Steps of ``streams`` environments, the newest ``capacity`` of each.

    Args:
        fields: what a step holds, by name; ``is_first`` must be among them.
        streams: number of environments.
        capacity: steps kept of each.
        directory: where to memory-map the arrays; None keeps them in memory.
        metadata: anything JSON that describes the data (environment, policy, seed).
    """

    def __init__(
        self,
        fields: dict[str, Field],
        *,
        streams: int,
        capacity: int,
        directory: Path | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if streams < 1 or capacity < 1:
            raise ValueError(f"streams and capacity must be positive, got {streams} and {capacity}")
        self.fields, self.streams, self.capacity = fields, streams, capacity
        self.metadata = metadata or {}
        self.written = 0
        """steps ever written to each stream"""
        self.directory = directory
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        self._arrays = {name: self._allocate(name, field, mode="w+") for name, field in fields.items()}

    @classmethod
    def open(cls, directory: Path) -> ReplayRing:
        """Open a folder that :meth:`flush` completed, to read it and to go on writing.

        Raises:
            FileNotFoundError: there is no data set there.
            ValueError: the folder's description and its arrays do not fit.
        """
        path = directory / _DESCRIPTION
        if not path.is_file():
            raise FileNotFoundError(
                f"{directory} holds no data set ({_DESCRIPTION} is missing); make one with 'thick collect'"
            )
        description = json.loads(path.read_text())
        ring = cls.__new__(cls)
        ring.fields = {
            name: Field(tuple(field["shape"]), field["dtype"])
            for name, field in description["fields"].items()
        }
        ring.streams, ring.capacity = description["streams"], description["capacity"]
        ring.metadata, ring.written, ring.directory = (
            description["metadata"],
            description["written"],
            directory,
        )
        ring._arrays = {name: ring._allocate(name, field, mode="r+") for name, field in ring.fields.items()}
        return ring

    def __len__(self) -> int:
        """Steps that can be sampled, over all streams."""
        return self.streams * min(self.written, self.capacity)

    def add(self, step: dict[str, np.ndarray]) -> None:
        """Append one step of every stream; arrays ``[streams, ...]``."""
        if step.keys() != self.fields.keys():
            raise ValueError(f"a step holds {sorted(self.fields)}, got {sorted(step)}")
        position = self.written % self.capacity
        for name, value in step.items():
            self._arrays[name][:, position] = value
        self.written += 1

    def sample(
        self, batch: int, time: int, rng: np.random.Generator, *, from_start: float = 0.0
    ) -> dict[str, np.ndarray]:
        """Windows of consecutive steps, ``[batch, time, ...]``, chosen uniformly.

        The first step of a window is always marked ``is_first``: the learner starts there without a past.

        Args:
            batch, time: number and length of the windows.
            rng: what chooses.
            from_start: share of the windows that are moved back to the start of the episode they begin in, so that
                what happened before is not hidden from the learner.

        Raises:
            ValueError: fewer than ``time`` steps have been written.
        """
        available = min(self.written, self.capacity)
        if available < time:
            raise ValueError(f"windows of {time} steps need as many in a stream; there are {available}")
        stream = rng.integers(self.streams, size=batch)
        oldest = self.written - available
        start = oldest + rng.integers(available - time + 1, size=batch)
        for row in np.flatnonzero(rng.random(batch) < from_start):
            start[row] = self._episode_start(stream[row], start[row], oldest)
        index = (start[:, None] + np.arange(time)) % self.capacity
        window = {name: array[stream[:, None], index] for name, array in self._arrays.items()}
        window["is_first"][:, 0] = True
        return window

    def _episode_start(self, stream: int, step: int, oldest: int) -> int:
        firsts = self._arrays["is_first"][stream]
        while step > oldest and not firsts[step % self.capacity]:
            step -= 1
        return step

    def steps(self, name: str) -> np.ndarray:
        """One field of all steps in order of time, ``[streams, length, ...]``."""
        available = min(self.written, self.capacity)
        index = np.arange(self.written - available, self.written) % self.capacity
        return self._arrays[name][:, index]

    def flush(self) -> None:
        """Bring a ring on disk to a state that :meth:`open` finds again."""
        if self.directory is None:
            return
        for array in self._arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        description = {
            "fields": {
                name: {"shape": field.shape, "dtype": field.dtype} for name, field in self.fields.items()
            },
            "streams": self.streams,
            "capacity": self.capacity,
            "written": self.written,
            "metadata": self.metadata,
        }
        write_atomically(self.directory / _DESCRIPTION, json.dumps(description, indent=1).encode())

    def _allocate(self, name: str, field: Field, *, mode: str) -> np.ndarray:
        shape = (self.streams, self.capacity, *field.shape)
        if self.directory is None:
            return np.zeros(shape, field.dtype)
        path = self.directory / (name.replace("/", ".") + ".npy")
        if mode == "w+":
            return np.lib.format.open_memmap(path, mode="w+", dtype=field.dtype, shape=shape)
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape != shape or array.dtype != np.dtype(field.dtype):
            raise ValueError(
                f"{path}: expected {field.dtype} {shape}, found {array.dtype} {array.shape}; collect the data again"
            )
        return array
