"""How a session's state lies in a row of bytes: names, types and shapes of its arrays, in terms of numpy alone.

A state is packed into one row a session, so that a table of live sessions is one array whatever the model looks like,
and so that the same bytes are what a session store keeps. Every runtime packs the same state into the same row: a row
that one wrote can be read by another whose layout has the same description.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ALIGNMENT = 8
"""bytes; every leaf starts at a multiple of this, so that a row can be viewed as any of its types"""
DTYPES = frozenset(["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
"""types that a leaf may have, little endian"""


@dataclass(frozen=True)
class Leaf:
    """One array of the state: where it lies in a row."""

    name: str
    """its path in the state, ``belief.deter``"""
    dtype: np.dtype
    shape: tuple[int, ...]
    """without the batch dimension"""
    offset: int
    """bytes from the start of the row"""
    size: int
    """bytes"""

    @property
    def filling(self) -> bytes:
        """What follows it, up to the next multiple of ``ALIGNMENT``."""
        return bytes(-self.size % ALIGNMENT)


class Layout:
    """The leaves of a row, one after the other, each filled up to a multiple of ``ALIGNMENT`` bytes.

    Args:
        arrays: name, type and shape (without the batch dimension) of each array of the state, in order.

    Raises:
        ValueError: a type that a row cannot hold.
    """

    def __init__(self, arrays: Iterable[tuple[str, str, Sequence[int]]]) -> None:
        leaves, offset = [], 0
        for name, dtype, shape in arrays:
            if dtype not in DTYPES:
                raise ValueError(f"{name}: a state cannot hold {dtype}; expected one of {sorted(DTYPES)}")
            kind = np.dtype(dtype)
            size = kind.itemsize * math.prod(shape)
            leaves.append(Leaf(name, kind, tuple(shape), offset, size))
            offset += -(-size // ALIGNMENT) * ALIGNMENT
        self.leaves = tuple(leaves)
        self.row_bytes = offset
        self._single = [(leaf, (1, *leaf.shape), leaf.filling) for leaf in leaves]

    @property
    def description(self) -> str:
        """JSON that two layouts share exactly when a row of one can be read as a row of the other."""
        return json.dumps(
            [[leaf.name, leaf.dtype.name, list(leaf.shape)] for leaf in self.leaves], separators=(",", ":")
        )

    def pack(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """The rows ``[B, row_bytes]`` uint8 of a batch of states.

        Args:
            arrays: ``[B, *shape]`` of each leaf, in order.

        Raises:
            ValueError: an array is missing, or has another type or shape than its leaf.
        """
        if len(arrays) != len(self.leaves):
            raise ValueError(f"the state has {len(arrays)} arrays, the layout {len(self.leaves)}")
        if arrays and len(arrays[0]) == 1:
            return self._pack_one(arrays)
        rows = np.zeros((len(arrays[0]) if arrays else 0, self.row_bytes), np.uint8)
        for leaf, array in zip(self.leaves, arrays, strict=True):
            if array.dtype != leaf.dtype or array.shape != (len(rows), *leaf.shape):
                raise _misshapen(leaf, (len(rows), *leaf.shape), array)
            if leaf.size:
                flat = np.ascontiguousarray(array).reshape(len(rows), -1)
                rows[:, leaf.offset : leaf.offset + leaf.size] = flat.view(np.uint8)
        return rows

    def _pack_one(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """The same for one state, which most acts are about: its bytes one after the other."""
        parts: list[bytes] = []
        for (leaf, shape, filling), array in zip(self._single, arrays, strict=True):
            if array.dtype != leaf.dtype or array.shape != shape:
                raise _misshapen(leaf, shape, array)
            parts += (array.tobytes(), filling)
        return np.frombuffer(b"".join(parts), np.uint8).reshape(1, self.row_bytes)

    def unpack(self, rows: np.ndarray) -> list[np.ndarray]:
        """The arrays ``[B, *shape]`` in rows ``[B, row_bytes]``, as views of them; the opposite of :meth:`pack`."""
        rows = np.ascontiguousarray(rows)
        if len(rows) == 1:  # quicker
            return [
                np.ndarray(shape, leaf.dtype, rows, leaf.offset) if leaf.size else np.zeros(shape, leaf.dtype)
                for leaf, shape, _ in self._single
            ]
        count = len(rows)
        return [
            rows[:, leaf.offset : leaf.offset + leaf.size].view(leaf.dtype).reshape(count, *leaf.shape)
            if leaf.size
            else np.zeros((count, *leaf.shape), leaf.dtype)
            for leaf in self.leaves
        ]

    def split(self, row: bytes) -> dict[str, np.ndarray]:
        """The leaves of one row by name, without a batch dimension (to export a belief).

        Raises:
            ValueError: the row is that of another layout.
        """
        if len(row) != self.row_bytes:
            raise ValueError(f"a row of this model has {self.row_bytes} bytes, got {len(row)}")
        whole = np.frombuffer(row, np.uint8).reshape(1, -1)
        return {
            leaf.name: array.reshape(leaf.shape).copy()
            for leaf, array in zip(self.leaves, self.unpack(whole), strict=True)
        }

    def join(self, leaves: Mapping[str, np.ndarray]) -> bytes:
        """One row out of leaves by name.

        Raises:
            ValueError: a leaf is missing, foreign or misshapen; the message names it.
        """
        wanted = {leaf.name for leaf in self.leaves}
        if missing := wanted - leaves.keys():
            raise ValueError(f"the state lacks {_some(missing)}")
        if foreign := leaves.keys() - wanted:
            raise ValueError(f"the state has {_some(foreign)}, which this model does not know")
        for leaf in self.leaves:
            array = leaves[leaf.name]
            if array.dtype != leaf.dtype or array.shape != leaf.shape:
                raise ValueError(
                    f"{leaf.name}: expected {leaf.dtype.name} of shape {list(leaf.shape)}, "
                    f"got {array.dtype.name} of shape {list(array.shape)[:16]}"
                )
        return self.pack([leaves[leaf.name][None] for leaf in self.leaves]).tobytes()


def _misshapen(leaf: Leaf, shape: tuple[int, ...], array: np.ndarray) -> ValueError:
    return ValueError(
        f"{leaf.name}: expected {leaf.dtype.name} {shape}, got {array.dtype.name} {array.shape}"
    )


def _some(names: set[str]) -> str:
    """The first few names, as a message has room for them."""
    shown = ", ".join(name[:60] for name in sorted(names)[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
