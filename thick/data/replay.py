"""A replay ring of contiguous streams, in memory or memory-mapped on disk.

One stream is one environment's life: episode after episode without gaps, so that a window may cross episodes
and even the shortest episode is learned from. A folder with ``replay.json`` and one ``.npy`` a field is at
the same time a ring, a saved ring and an offline data set. What was opened to be read is never written to.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from thick.files import write_atomically

_DESCRIPTION = "replay.json"
_RESERVED_BYTES = 1 << 22
"""disk that is reserved at a time for each field of each stream"""


@dataclass(frozen=True)
class Field:
    """Shape and dtype of one entry of a step."""

    shape: tuple[int, ...]
    dtype: str


_ARRAYS = re.compile(r"(observation\.[^/]+|action|reward|is_first|is_terminal)\.npy")
"""of a ring's fields, as :func:`thick.data.collect.ring_fields` names them"""


def is_ring_file(path: Path) -> bool:
    """Whether a file in a ring's folder is called as one of the ring's own."""
    return path.name == _DESCRIPTION or _ARRAYS.fullmatch(path.name) is not None


def remove_ring(directory: Path) -> None:
    """Remove a ring's files, and nothing else: the folder itself may be a link to another disk, and stays."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if is_ring_file(path):
            path.unlink()


class ReplayRing:
    """Steps of ``streams`` environments, the newest ``capacity`` of each.

    Args:
        fields: what a step holds, by name; ``is_first`` must be among them.
        streams: number of environments.
        capacity: steps kept of each.
        slack: older steps of each that are not sampled any more, but not overwritten either, so that
            :meth:`rewind` by as many finds the ring as it was.
        directory: where to memory-map the arrays; None keeps them in memory.
        metadata: anything JSON that describes the data (environment, policy, seed).
    """

    def __init__(
        self,
        fields: dict[str, Field],
        *,
        streams: int,
        capacity: int,
        slack: int = 0,
        directory: Path | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if streams < 1 or capacity < 1 or slack < 0:
            raise ValueError(f"streams and capacity must be positive, got {streams} and {capacity}")
        self.fields, self.streams, self.capacity, self.slack = fields, streams, capacity, slack
        self.metadata = metadata or {}
        self.written = 0
        """steps ever written to each stream"""
        self.directory, self.writable = directory, True
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / _DESCRIPTION).unlink(missing_ok=True)
        self._reserved = 0
        self._arrays = {name: self._allocate(name, field) for name, field in fields.items()}

    @classmethod
    def open(cls, directory: Path, *, write: bool = False) -> ReplayRing:
        """Open a folder that :meth:`flush` completed.

        Args:
            directory: the folder.
            write: go on writing there; otherwise the files are opened to be read and cannot change.

        Raises:
            FileNotFoundError: there is no data set there.
            ValueError: it is damaged: description and arrays do not fit, or a file is cut short.
        """
        path = directory / _DESCRIPTION
        if not path.is_file():
            inside = directory / "data" / _DESCRIPTION
            hint = (
                f"; did you mean {inside.parent}?" if inside.is_file() else "; make one with 'thick collect'"
            )
            raise FileNotFoundError(f"{directory} holds no data set ({_DESCRIPTION} is missing){hint}")
        ring = cls.__new__(cls)
        try:
            description = json.loads(path.read_text())
            ring.fields = {
                name: Field(tuple(field["shape"]), field["dtype"])
                for name, field in description["fields"].items()
            }
            ring.streams, ring.capacity = int(description["streams"]), int(description["capacity"])
            ring.slack, ring.written = int(description.get("slack", 0)), int(description["written"])
            ring.metadata = dict(description["metadata"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}); collect the data again") from error
        ring.directory, ring.writable, ring._reserved = directory, write, 0
        ring._arrays = {name: ring._map(name, field) for name, field in ring.fields.items()}
        return ring

    def __len__(self) -> int:
        """Steps that can be sampled, over all streams."""
        return self.streams * self.available

    @property
    def available(self) -> int:
        """Steps of each stream that can be sampled."""
        return min(self.written, self.capacity)

    def add(self, step: dict[str, np.ndarray]) -> None:
        """Append one step of every stream; arrays ``[streams, ...]``."""
        if not self.writable:
            raise ValueError(f"{self.directory} was opened to be read: a given data set is never written to")
        if step.keys() != self.fields.keys():
            raise ValueError(f"a step holds {sorted(self.fields)}, got {sorted(step)}")
        position = self.written % self.rows
        if position >= self._reserved:
            self._reserve(position)
        for name, value in step.items():
            self._arrays[name][:, position] = value
        self.written += 1

    def sample(
        self, batch: int, time: int, rng: np.random.Generator, *, from_start: float = 0.0
    ) -> dict[str, np.ndarray]:
        """Windows of consecutive steps, ``[batch, time, ...]``, chosen uniformly.

        The first step of a window is always marked ``is_first``: the learner starts there without a past. Where a
        window lies is said by ``at/ring`` (0 here), ``at/stream`` and ``at/step`` (of its first, counted from the first
        ever written), int64 ``[batch]``.

        Args:
            batch, time: number and length of the windows.
            rng: what chooses.
            from_start: share of the windows that are moved back to the start of the episode they begin in, so that
                what happened before is not hidden from the learner.

        Raises:
            ValueError: fewer than ``time`` steps have been written.
        """
        available = self.available
        if available < time:
            raise ValueError(f"windows of {time} steps need as many in a stream; there are {available}")
        stream = rng.integers(self.streams, size=batch)
        oldest = self.written - available
        start = oldest + rng.integers(available - time + 1, size=batch)
        for row in np.flatnonzero(rng.random(batch) < from_start):
            start[row] = self._episode_start(stream[row], start[row], oldest)
        index = (start[:, None] + np.arange(time)) % self.rows
        window = {name: array[stream[:, None], index] for name, array in self._arrays.items()}
        window["is_first"][:, 0] = True
        return window | {"at/ring": np.zeros(batch, np.int64), "at/stream": stream, "at/step": start}

    def begins_episode(self, stream: int, step: int) -> bool:
        """Whether a step, counted from the first ever written, is the first of its episode."""
        return bool(self._arrays["is_first"][stream, step % self.rows])

    def _episode_start(self, stream: int, step: int, oldest: int) -> int:
        firsts = self._arrays["is_first"][stream]
        while step > oldest and not firsts[step % self.rows]:
            step -= 1
        return step

    def rewind(self, written: int) -> None:
        """Forget the steps after the first ``written`` of each stream: they will be written again.

        Raises:
            ValueError: so many were never written, or what is to be found again was overwritten since.
        """
        if not 0 <= written <= self.written or self.written - written > self.slack:
            raise ValueError(
                f"{self.directory}: cannot go back to {written} steps a stream: {self.written} were written, of "
                f"which the last {self.slack} can be taken back"
            )
        self.written = written

    def steps(self, name: str) -> np.ndarray:
        """One field of all steps in order of time, ``[streams, length, ...]``."""
        available = self.available
        index = np.arange(self.written - available, self.written) % self.rows
        return self._arrays[name][:, index]

    def checksum(self, *, observations: bool = True) -> int:
        """A number that differs where the steps that can be sampled differ.

        Args:
            observations: look at them too; the rest is small, and differs where data was collected anew.
        """
        value = 0
        for name in self.fields:
            if name.startswith("observation/") and not observations:
                continue
            value = zlib.crc32(self.steps(name).tobytes(), value)
        return value

    def flush(self) -> None:
        """Bring a ring on disk to a state that :meth:`open` finds again."""
        if self.directory is None or not self.writable:
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
            "slack": self.slack,
            "written": self.written,
            "metadata": self.metadata,
        }
        write_atomically(self.directory / _DESCRIPTION, json.dumps(description, indent=1).encode())

    @property
    def rows(self) -> int:
        """Steps of each stream that there is room for: step n lies in row n modulo this."""
        return self.capacity + self.slack

    def _path(self, name: str) -> Path:
        assert self.directory is not None
        group, _, key = name.partition("/")
        # A key may hold anything: no two of them may meet in one file, and none may leave the folder.
        return self.directory / ".".join(
            [group, *([quote(key, safe="").replace(".", "%2E")] if key else []), "npy"]
        )

    def _shape(self, field: Field) -> tuple[int, ...]:
        return (self.streams, self.rows, *field.shape)

    def _allocate(self, name: str, field: Field) -> np.ndarray:
        if self.directory is None:
            self._reserved = self.rows
            return np.zeros(self._shape(field), field.dtype)
        return np.lib.format.open_memmap(
            self._path(name), mode="w+", dtype=field.dtype, shape=self._shape(field)
        )

    def _map(self, name: str, field: Field) -> np.ndarray:
        path, shape = self._path(name), self._shape(field)
        try:
            array = np.lib.format.open_memmap(
                path, mode="r"
            )  # to look first: mapped to be written, it would grow
        except FileNotFoundError:
            raise ValueError(f"{path} is missing; collect the data again") from None
        except ValueError as error:
            raise ValueError(f"{path} is damaged or cut short ({error}); collect the data again") from error
        if array.shape != shape or array.dtype != np.dtype(field.dtype):
            raise ValueError(
                f"{path}: expected {field.dtype} {shape}, found {array.dtype} {array.shape}; collect the data again"
            )
        return np.lib.format.open_memmap(path, mode="r+") if self.writable else array

    def _reserve(self, position: int) -> None:
        """Take disk for the steps from ``position`` on: written through a map to a full disk, a process is killed."""
        most = max(array.itemsize * math.prod(array.shape[2:]) for array in self._arrays.values())
        end = min(self.rows, position + max(1, _RESERVED_BYTES // max(most, 1)))
        for name, array in self._arrays.items():
            if isinstance(array, np.memmap):
                step = array.itemsize * math.prod(array.shape[2:])
                with open(self._path(name), "r+b") as file:
                    for stream in range(self.streams):
                        begin = array.offset + (stream * self.rows + position) * step
                        os.posix_fallocate(file.fileno(), begin, max(1, (end - position) * step))
        self._reserved = end
