"""The operations of :class:`thick.arrays.operations.Arrays` in numpy, the same bits on every processor."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from thick.arrays import functions
from thick.arrays.operations import Array, Arrays

_F32 = np.float32
_NOTHING = contextlib.nullcontext()
_FEW = 32
"""classes that are gone through one by one"""


class NumpyArrays:
    """See :class:`~thick.arrays.operations.Arrays`."""

    device = "cpu"
    random = None

    exp = staticmethod(functions.exp)
    log = staticmethod(functions.log)
    erfinv = staticmethod(functions.erfinv)
    power = staticmethod(functions.power)
    sqrt = staticmethod(np.sqrt)
    isfinite = staticmethod(np.isfinite)
    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)
    where = staticmethod(np.where)
    flip = staticmethod(np.flip)
    swap = staticmethod(np.swapaxes)
    concat = staticmethod(np.concatenate)
    stack = staticmethod(np.stack)

    def zeros(self, *shape: int) -> Array:
        return np.zeros(shape, _F32)

    def ones(self, *shape: int) -> Array:
        return np.ones(shape, _F32)

    def full(self, shape: Sequence[int], value: float) -> Array:
        return np.full(tuple(shape), value, _F32)

    def whole(self, *shape: int) -> Array:
        return np.zeros(shape, np.int64)

    def no(self, *shape: int) -> Array:
        return np.zeros(shape, np.bool_)

    def arange(self, begin: int, end: int | None = None) -> Array:
        return np.arange(begin, dtype=np.int64) if end is None else np.arange(begin, end, dtype=np.int64)

    def eye(self, count: int) -> Array:
        return np.eye(count, dtype=_F32)

    def one_hot(self, index: Array, count: int) -> Array:
        if count > _FEW or index.size < 8 * count:
            return (index[..., None] == np.arange(count)).astype(_F32)
        hot = np.empty((*index.shape, count), _F32)
        for each in range(count):  # long vectors, in place of many short ones
            hot[..., each] = index == each
        return hot

    def array(self, values: Any) -> Array:
        return np.asarray(values)

    def empty_like(self, array: Array, *shape: int) -> Array:
        return np.zeros(shape, array.dtype)

    def as_float(self, array: Array) -> Array:
        return array if array.dtype == _F32 else array.astype(_F32)

    def as_int(self, array: Array) -> Array:
        return array.astype(np.int64)

    def as_like(self, array: Array, other: Array) -> Array:
        return array if array.dtype == other.dtype else array.astype(other.dtype)

    def numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def copy(self, array: Array) -> Array:
        return array.copy()

    def expand(self, array: Array, *shape: int) -> Array:
        lead, given = len(shape) - array.ndim, array.shape
        wanted = tuple([given[at - lead] if size == -1 else size for at, size in enumerate(shape)])
        return np.broadcast_to(array, wanted)

    def clip(self, array: Array, low: float | None = None, high: float | None = None) -> Array:
        if low is not None:
            array = np.maximum(array, array.dtype.type(low))
        return array if high is None else np.minimum(array, array.dtype.type(high))

    def drawn(self, below: Array, uniform: Array) -> Array:
        classes = below.shape[-1]
        if classes > _FEW:
            return (below[..., :-1] <= uniform[..., None]).sum(-1)
        count = np.zeros(np.broadcast_shapes(below.shape[:-1], uniform.shape), np.uint8)
        for each in range(classes - 1):  # long vectors, in place of many short ones
            count += (below[..., each] <= uniform).view(np.uint8)
        return count.astype(np.int64)

    def no_nan(self, array: Array, value: float) -> Array:
        return array if np.isfinite(array).all() else np.nan_to_num(array, nan=value)

    def max(self, array: Array, axis: int, *, keep: bool = False) -> Array:
        return array.max(axis, keepdims=keep)

    def min(self, array: Array, axis: int) -> Array:
        return array.min(axis)

    def sum(self, array: Array, axis: int | tuple[int, ...], *, keep: bool = False) -> Array:
        return array.sum(axis, keepdims=keep)

    def std(self, array: Array, axis: int, *, keep: bool = False) -> Array:
        # As numpy's own, number for number, without its questions about types.
        count = np.float32(array.shape[axis])
        away = array - array.sum(axis, keepdims=True) / count
        return np.sqrt((away * away).sum(axis, keepdims=keep) / count)

    def softmax(self, logits: Array) -> Array:
        raw = functions.exp(logits - logits.max(-1, keepdims=True))
        return raw / raw.sum(-1, keepdims=True)

    def norm(self, array: Array) -> Array:
        return np.sqrt((array * array).sum(-1))

    def top(self, array: Array, count: int) -> tuple[Array, Array]:
        # The first of equals first, so that the order of candidates decides, and nothing else.
        places = np.argsort(-array, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(array, places, 1), places

    def take_along(self, array: Array, index: Array, axis: int) -> Array:
        return np.take_along_axis(array, index, axis)

    def put(self, array: Array, index: Array, values: Array) -> Array:
        array = array.copy()
        array[index] = values
        return array

    def nonzero(self, mask: Array) -> Array:
        return np.flatnonzero(mask)

    def no_grad(self) -> AbstractContextManager[Any]:
        return _NOTHING

    def irfft(self, real: Array, imaginary: Array, length: int) -> Array:
        # Summed wave by wave: the libraries' transforms differ in their last bits from processor to processor.
        wave = np.zeros((*real.shape[:-1], length), np.float64)
        angle = 2 * math.pi / length
        for index in range(real.shape[-1]):
            twice = 1.0 if index in (0, length / 2) else 2.0
            turns = [angle * (index * step % length) for step in range(length)]
            cosines, sines = (
                np.array([twice * function(turn) / length for turn in turns])
                for function in (math.cos, math.sin)
            )
            wave += real[..., index, None] * cosines - imaginary[..., index, None] * sines
        return wave.astype(_F32)


NUMPY: Arrays = NumpyArrays()
