"""Trained weights as the kernels read them: panels of 16 columns, tables of rows for one-hots, aligned.

Names are those of the trained modules (``world.dynamics.gru.weight`` …), shapes ``[outputs, inputs]``.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thick.runtimes import parts
from thick.runtimes.native import library as native
from thick.runtimes.native.library import COLUMNS, SLICE, padded

Columns = Sequence[tuple[int, int]]
"""Ranges of inputs, in the order in which a kernel reads them."""


class Room:
    """Memory for weights, one after the other as they will be read: what comes next can then be called for in time.
    Its pieces are large enough for huge pages, where the system has them."""

    PIECE = 1 << 24
    """bytes"""

    def __init__(self) -> None:
        self._piece: mmap.mmap | None = None
        self._left = np.zeros(0, np.float32)

    def take(self, *shape: int) -> np.ndarray:
        """Zeros, float32, at the beginning of a cache line."""
        count = math.prod(shape)
        if count > len(self._left):
            self.close()
            size = max(4 * count, self.PIECE)
            self._piece = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                with contextlib.suppress(OSError):  # a kernel without them
                    self._piece.madvise(mmap.MADV_HUGEPAGE)
            self._left = np.frombuffer(self._piece, np.float32)
        taken, self._left = self._left[:count], self._left[padded(count) :]
        return taken.reshape(shape)

    def close(self) -> None:
        """Give back what is left of the last piece: a huge page that is begun is there as a whole."""
        piece, self._piece, left = self._piece, None, self._left.nbytes
        self._left = self._left[:0]
        if piece is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        begin = -(-(len(piece) - left) // mmap.PAGESIZE) * mmap.PAGESIZE
        if begin < len(piece):
            piece.madvise(mmap.MADV_DONTNEED, begin, len(piece) - begin)


class Weights:
    """The tensors of an entry, and the records that are made of them.

    Args:
        tensors: by name, float32.
        stoch, classes: S and K; the first ``S·K`` inputs of a layer that reads z are its one-hots.
        rooms: for panels, and for everything else; those of a model that has several such objects.
    """

    def __init__(
        self,
        tensors: Mapping[str, np.ndarray],
        *,
        stoch: int,
        classes: int,
        rooms: tuple[Room, Room] | None = None,
    ) -> None:
        self._panels, self._rest = rooms or (Room(), Room())
        self.tensors, self.stoch, self.classes = tensors, stoch, classes
        self.flat = stoch * classes
        self.widest = 0
        """columns of the widest layer so far"""
        self._kept: list[np.ndarray] = []  # the records hold addresses alone
        self._offsets = self._keep(np.arange(stoch, dtype=np.int64) * classes)

    def release(self) -> None:
        """Let go of the tensors: all records are made, and have what they read."""
        self.tensors = {}
        self._panels.close()
        self._rest.close()

    def has(self, name: str) -> bool:
        """Whether there is such a layer."""
        return f"{name}.weight" in self.tensors

    def layers(self, name: str) -> list[str]:
        """Names of the layers of an MLP."""
        return parts.layers(self.tensors, name)

    def entry(self, name: str, key: str) -> str:
        """Name of the module of an observation's entry."""
        return parts.entry_name(self.tensors, name, key)

    def size(self, name: str) -> int:
        """Outputs of a layer."""
        return int(self.tensors[f"{name}.weight"].shape[0])

    def weight(self, name: str) -> np.ndarray:
        """``[O, I]``"""
        return np.asarray(self.tensors[f"{name}.weight"], np.float32)

    def bias(self, name: str) -> np.ndarray:
        """``[O]``"""
        return np.asarray(self.tensors[f"{name}.bias"], np.float32)

    # -- dense layers -----------------------------------------------------------------------------------------------

    def dense(
        self, name: str, *, columns: Columns | None = None, logits: bool = False, bias: bool = True
    ) -> Any:
        """A layer.

        Args:
            columns: the inputs that are read; None takes all.
            logits: outputs are ``[S, K]``, to be class-major.
            bias: whether the biases are added here.
        """
        weight, start = self.weight(name), self.bias(name)
        if logits:
            weight, start = self.class_major(weight), self.class_major(start)
        return self.pack([weight], [start if bias else 0 * start], columns)

    def pack(
        self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], columns: Columns | None = None
    ) -> Any:
        """Layers on the same input as one: the outputs of each begin at a multiple of 16."""
        inputs = [weights[0]] if columns is None else [weights[0][:, begin:end] for begin, end in columns]
        count = sum(part.shape[1] for part in inputs)
        width = sum(padded(weight.shape[0]) for weight in weights)
        table, start = self._panels.take(width // COLUMNS, count, COLUMNS), self._rest.take(width)
        at = 0
        for weight, bias in zip(weights, biases, strict=True):
            parts = [weight] if columns is None else [weight[:, begin:end] for begin, end in columns]
            size, outputs = padded(weight.shape[0]), weight.shape[0]
            whole = np.zeros((size, count), np.float32)
            whole[:outputs] = np.concatenate(parts, 1)
            panels = whole.reshape(size // COLUMNS, COLUMNS, count).transpose(0, 2, 1)
            table[at // COLUMNS : (at + size) // COLUMNS] = panels
            start[at : at + outputs] = bias
            at += size
        outputs = width if len(weights) > 1 else weights[0].shape[0]
        self.widest = max(self.widest, width)
        return native.Dense(self._address(table), self._address(start), count, outputs)

    def scalar(self, name: str) -> Any:
        """A layer of one output, as the last of a chain."""
        weight, start = self._rest.take(padded(self.weight(name).shape[1])), self._rest.take(1)
        weight[: self.weight(name).shape[1]] = self.weight(name)[0]
        start[0] = self.bias(name)[0]
        return native.Dense(self._address(weight), self._address(start), self.weight(name).shape[1], 1)

    def class_major(self, array: np.ndarray) -> np.ndarray:
        """``[S·K, ...]`` -> ``[K · padded(S), ...]``"""
        groups = array.reshape(self.stoch, self.classes, *array.shape[1:]).swapaxes(0, 1)
        out = np.zeros((self.classes, padded(self.stoch), *array.shape[1:]), np.float32)
        out[:, : self.stoch] = groups
        return out.reshape(-1, *array.shape[1:])

    # -- chains --------------------------------------------------------------------------------------------------------

    def chain(
        self,
        names: Sequence[str],
        *,
        linear: bool,
        z: bool = False,
        rest: Columns | None = None,
        logits: bool = False,
    ) -> Any:
        """Layers one after the other.

        Args:
            names: of the layers.
            linear: the last has no ELU.
            z: the first reads z before the rest.
            rest: the other inputs of the first, in the order in which they come; None takes all of them.
            logits: the outputs of the last are ``[S, K]``, to be class-major.
        """
        if len(names) > native.LAYERS:
            raise ValueError(
                f"{names[0]}: {len(names)} layers, the native runtime has at most {native.LAYERS}"
            )
        first = self.weight(names[0])
        if z and rest is None:
            rest = [(self.flat, first.shape[1])]
        table = self._table(first[:, : self.flat]) if z else None
        made = native.Chain(groups=self.stoch if z else 0, layers=len(names), linear=int(linear))
        if table is not None:
            made.table, made.offsets = self._address(table), native.address(self._offsets)
            made.classes = self.flat
        for index, name in enumerate(names):
            last = index == len(names) - 1
            if last and index > 0 and linear and self.size(name) == 1:
                made.layer[index] = self.scalar(name)
            else:
                made.layer[index] = self.dense(name, columns=None if index else rest, logits=logits and last)
        return made

    def classes_chain(self, names: Sequence[str], counts: Sequence[int]) -> Any:
        """Layers of which the first reads one-hots alone, of so many classes each."""
        made = native.Chain(groups=len(counts), layers=len(names), linear=0)
        offsets = np.cumsum(counts) - np.asarray(counts)
        made.offsets, made.classes = native.address(self._keep(offsets.astype(np.int64))), int(np.sum(counts))
        made.table = self._address(self._table(self.weight(names[0])))
        made.layer[0] = self.dense(names[0], columns=[(0, 0)])
        for index, name in enumerate(names[1:], 1):
            made.layer[index] = self.dense(name)
        return made

    def _table(self, weight: np.ndarray) -> np.ndarray:
        """``[O, classes]`` -> rows of weights for classes, in slices of 64 columns: each ``[classes, 64]``"""
        outputs, classes = weight.shape
        table = self._rest.take(padded(outputs) * classes)
        for begin in range(0, outputs, SLICE):
            part = weight[begin : begin + SLICE]
            width = padded(len(part))
            slice_of = table[begin * classes : (begin + width) * classes].reshape(classes, width)
            slice_of[:, : len(part)] = part.T
        return table

    def _keep(self, array: np.ndarray) -> np.ndarray:
        self._kept.append(array)
        return array

    def _address(self, array: np.ndarray) -> int:
        return native.address(self._keep(array))
