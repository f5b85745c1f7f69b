"""Where the beliefs of live sessions live: preallocated rows on the device, written once, shared by counting.

An agent's state (any nested ``NamedTuple`` of tensors whose leading dimension is the batch) is packed into
one row of bytes a session. Gathering a batch out of the table is then one indexed read, whatever the model
looks like, and the same bytes are what the session store writes.

A row never changes after it was written: an act writes its new state into a fresh row and the session swaps
to it once the answer is durable. So a failed act changes nothing, a fork is a second reference to a row,
and imagining reads a row that nobody can move underneath it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thick.pytrees import map_arrays, walk

ALIGNMENT = 8
"""bytes; every leaf starts at a multiple of this, so that a byte row can be viewed as any of its types"""

_split: Any = torch.split_with_sizes_copy  # whose stub forgets what it returns

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    )
}
"""types a leaf may have, by the name that a layout's description uses"""


@dataclass(frozen=True)
class Leaf:
    """One tensor of the state: where it lies in a row."""

    name: str
    """its path in the pytree, ``belief.deter``"""
    dtype: torch.dtype
    shape: tuple[int, ...]
    """without the batch dimension"""
    offset: int
    """bytes from the start of the row"""
    size: int
    """bytes"""


class Layout:
    """How a state is laid out in a row of ``row_bytes`` bytes; made from any example of it with a batch
    dimension."""

    def __init__(self, example: Any) -> None:
        self._example = example
        self.leaves: list[Leaf] = []
        offset = 0
        for name, tensor in walk(example):
            if tensor.ndim == 0:
                raise ValueError(f"{name} has no batch dimension: every leaf of a state needs one")
            shape = tuple(tensor.shape[1:])
            size = tensor.element_size() * tensor[0].numel()
            self.leaves.append(Leaf(name, tensor.dtype, shape, offset, size))
            offset += -(-size // ALIGNMENT) * ALIGNMENT
        self.row_bytes = offset
        self._sections: dict[torch.dtype, list[int]] = {}
        """how a row read as this type falls into leaves and what lies between them, in elements"""
        self._section: dict[str, int] = {}
        """which of these a leaf is"""
        for dtype in {leaf.dtype for leaf in self.leaves}:
            sizes, at = [], 0
            for leaf in self.leaves:
                if leaf.dtype != dtype or not leaf.size:
                    continue
                if leaf.offset > at:
                    sizes.append((leaf.offset - at) // dtype.itemsize)
                self._section[leaf.name] = len(sizes)
                sizes.append(leaf.size // dtype.itemsize)
                at = leaf.offset + leaf.size
            if self.row_bytes > at:
                sizes.append((self.row_bytes - at) // dtype.itemsize)
            self._sections[dtype] = sizes

    @property
    def description(self) -> str:
        """JSON that two layouts share exactly when a row of one can be read as a row of the other."""
        return json.dumps(
            [[leaf.name, str(leaf.dtype).removeprefix("torch."), list(leaf.shape)] for leaf in self.leaves],
            separators=(",", ":"),
        )

    def pack(self, state: Any) -> Tensor:
        """The rows ``[B, row_bytes]`` uint8 of a batch of states, on the device of the state."""
        tensors = [tensor for _, tensor in walk(state)]
        if len(tensors) != len(self.leaves):
            raise ValueError(f"the state has {len(tensors)} tensors, the layout {len(self.leaves)}")
        batch = tensors[0].shape[0]
        gap = torch.zeros((batch, ALIGNMENT), dtype=torch.uint8, device=tensors[0].device)
        pieces = []
        # As few operations as there can be: beside a busy event loop each waits for the interpreter's lock.
        for leaf, tensor in zip(self.leaves, tensors, strict=True):
            if tensor.shape[1:] != leaf.shape or tensor.dtype != leaf.dtype:
                raise ValueError(
                    f"{leaf.name}: expected {leaf.dtype} {leaf.shape}, "
                    f"got {tensor.dtype} {tuple(tensor.shape[1:])}"
                )
            if leaf.size:
                row = tensor if len(leaf.shape) == 1 else tensor.reshape(batch, -1)
                if row.stride(-1) != 1:  # torch calls a row of one number contiguous whatever its stride
                    row = row.clone(memory_format=torch.contiguous_format)
                pieces.append((row if row.is_contiguous() else row.contiguous()).view(torch.uint8))
            if leaf.size % ALIGNMENT:
                pieces.append(gap[:, : ALIGNMENT - leaf.size % ALIGNMENT])
        return torch.cat(pieces, 1).detach() if pieces else gap[:, :0]

    def unpack(self, rows: Tensor) -> Any:
        """The batch of states in rows ``[B, row_bytes]``; the opposite of ``pack``."""
        batch = rows.shape[0]
        rows = rows.contiguous()
        # All leaves of a type in one operation, with what lies between them.
        read = {dtype: _split(rows.view(dtype), sizes, 1) for dtype, sizes in self._sections.items()}
        leaves = iter(self.leaves)

        def leaf_of(_: Tensor) -> Tensor:
            leaf = next(leaves)
            if not leaf.size:
                return torch.zeros((batch, *leaf.shape), dtype=leaf.dtype, device=rows.device)
            found = read[leaf.dtype][self._section[leaf.name]]
            return found if len(leaf.shape) == 1 else found.view(batch, *leaf.shape)

        return map_arrays(leaf_of, self._example)

    def split(self, row: bytes) -> dict[str, Tensor]:
        """The leaves of one row by name, without a batch dimension (for a belief export)."""
        if len(row) != self.row_bytes:
            raise ValueError(f"a row of this model has {self.row_bytes} bytes, got {len(row)}")
        whole = torch.frombuffer(bytearray(row), dtype=torch.uint8)
        return {
            leaf.name: whole[leaf.offset : leaf.offset + leaf.size]
            .clone()
            .view(leaf.dtype)
            .reshape(leaf.shape)
            if leaf.size
            else torch.zeros(leaf.shape, dtype=leaf.dtype)
            for leaf in self.leaves
        }

    def join(self, leaves: Mapping[str, Tensor]) -> bytes:
        """One row out of leaves by name; raises ``ValueError`` naming the leaf that is missing, foreign or
        misshapen."""
        wanted = {leaf.name for leaf in self.leaves}
        if missing := wanted - leaves.keys():
            raise ValueError(f"the state lacks {_some(missing)}")
        if foreign := leaves.keys() - wanted:
            raise ValueError(f"the state has {_some(foreign)}, which this model does not know")
        row = bytearray(self.row_bytes)
        for leaf in self.leaves:
            tensor = leaves[leaf.name]
            if tensor.dtype != leaf.dtype or tuple(tensor.shape) != leaf.shape:
                raise ValueError(
                    f"{leaf.name}: expected {_kind(leaf.dtype)} of shape {list(leaf.shape)}, "
                    f"got {_kind(tensor.dtype)} of shape {list(tensor.shape)[:16]}"
                )
            if leaf.size:
                piece = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                row[leaf.offset : leaf.offset + leaf.size] = piece
        return bytes(row)


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _some(names: set[str]) -> str:
    """The first few names, as a message has room for them."""
    shown = ", ".join(name[:60] for name in sorted(names)[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


class SlotTable:
    """Rows of one model's live sessions on its device. Written by the worker, counted from anywhere."""

    def __init__(self, layout: Layout, device: torch.device | str, capacity: int = 64) -> None:
        self.layout = layout
        self.device = torch.device(device)
        self._rows = torch.zeros((capacity, layout.row_bytes), dtype=torch.uint8, device=device)
        self._free = list(range(capacity - 1, -1, -1))
        self._references = [0] * capacity
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Rows that somebody holds."""
        return len(self._references) - len(self._free)

    def put(self, rows: Tensor) -> list[int]:
        """Write rows ``[B, row_bytes]`` into free slots and return these, each held once by the caller."""
        with self._lock:
            while len(self._free) < rows.shape[0]:
                self._grow()
            slots = [self._free.pop() for _ in range(rows.shape[0])]
            for slot in slots:
                self._references[slot] = 1
            self._rows[torch.tensor(slots, device=self._rows.device)] = rows.to(self._rows.device)
        return slots

    def gather(self, slots: Sequence[int]) -> Tensor:
        """A copy ``[B, row_bytes]`` of the rows in these slots."""
        with self._lock:
            return self._rows[torch.tensor(slots, dtype=torch.long, device=self._rows.device)]

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

    def _grow(self) -> None:
        """Double the table: rare, since it never shrinks."""
        size = self._rows.shape[0]
        self._rows = torch.cat([self._rows, torch.zeros_like(self._rows)])
        self._free.extend(range(2 * size - 1, size - 1, -1))
        self._references.extend([0] * size)


def rows_of(state: Any, indices: Sequence[int]) -> Any:
    """The sub-batch ``indices`` of a batch of states; the batch itself where that is all of it."""
    first = next((tensor for _, tensor in walk(state)), None)
    if first is None or list(indices) == list(range(first.shape[0])):
        return state
    at = torch.tensor(indices, dtype=torch.long, device=first.device)
    return map_arrays(lambda tensor: tensor[at], state)
