"""What numpy and torch write differently, as planning needs it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""a numpy array or a torch tensor; its shape and type are said where it is used"""


class Arrays(Protocol):
    """The operations of one library, on one device. New arrays are float32 unless said otherwise."""

    device: Any
    """where the arrays are: ``"cpu"``, or a device of torch"""
    random: Any
    """kernels for random numbers (:mod:`thick.arrays.random_kernels`); None where they are made of operations"""

    # -- new arrays ------------------------------------------------------------------------------------------------

    def zeros(self, *shape: int) -> Array:
        """float32 zeros."""

    def ones(self, *shape: int) -> Array:
        """float32 ones."""

    def full(self, shape: Sequence[int], value: float) -> Array:
        """float32, all the same."""

    def whole(self, *shape: int) -> Array:
        """int64 zeros."""

    def no(self, *shape: int) -> Array:
        """bool, all false."""

    def arange(self, begin: int, end: int | None = None) -> Array:
        """int64 from ``begin`` (or 0) up to, not including, the end."""

    def eye(self, count: int) -> Array:
        """float32 ``[count, count]``."""

    def one_hot(self, index: Array, count: int) -> Array:
        """int64 ``[*B]`` -> float32 ``[*B, count]``."""

    def array(self, values: Any) -> Array:
        """A numpy array, a list or an array of this library, in its own type, on this device."""

    def empty_like(self, array: Array, *shape: int) -> Array:
        """Zeros of the type of ``array`` in another shape."""

    # -- types -----------------------------------------------------------------------------------------------------

    def as_float(self, array: Array) -> Array:
        """As float32."""

    def as_int(self, array: Array) -> Array:
        """As int64, towards zero."""

    def as_like(self, array: Array, other: Array) -> Array:
        """In the type of ``other``."""

    def numpy(self, array: Array) -> np.ndarray:
        """On the host."""

    def copy(self, array: Array) -> Array:
        """An array of its own memory."""

    # -- shapes ----------------------------------------------------------------------------------------------------

    def expand(self, array: Array, *shape: int) -> Array:
        """Broadcast without copying; -1 keeps a dimension."""

    def concat(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """One after the other."""

    def stack(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """Along a new axis."""

    def flip(self, array: Array, axis: int) -> Array:
        """In the opposite order."""

    def swap(self, array: Array, axis: int, other: int) -> Array:
        """Two axes exchanged."""

    # -- element by element ----------------------------------------------------------------------------------------

    def where(self, mask: Array, yes: Any, no: Any) -> Array:
        """``yes`` where the mask is, else ``no``; numbers take the type of the other."""

    def minimum(self, a: Any, b: Any) -> Array:
        """Element by element, of arrays."""

    def maximum(self, a: Any, b: Any) -> Array:
        """Element by element, of arrays."""

    def clip(self, array: Array, low: float | None = None, high: float | None = None) -> Array:
        """Between two numbers."""

    def exp(self, array: Array) -> Array:
        """float32."""

    def log(self, array: Array) -> Array:
        """float32, of numbers ≥ 0."""

    def power(self, array: Array, exponent: float) -> Array:
        """float32, of numbers > 0."""

    def sqrt(self, array: Array) -> Array:
        """float32."""

    def erfinv(self, array: Array) -> Array:
        """float32, of numbers in (-1, 1)."""

    def isfinite(self, array: Array) -> Array:
        """bool."""

    def drawn(self, below: Array, uniform: Array) -> Array:
        """Classes by the inverse of their distribution function, ``[*B]``: how many of all but the last of ``below``
        ``[*B, K]``, which does not fall along K, are not above ``uniform`` ``[*B]``."""

    def no_nan(self, array: Array, value: float) -> Array:
        """NaN replaced by a number, infinities by the greatest finite ones."""

    # -- reductions ------------------------------------------------------------------------------------------------

    def max(self, array: Array, axis: int, *, keep: bool = False) -> Array:
        """Greatest along an axis, which stays with length 1 if ``keep``."""

    def min(self, array: Array, axis: int) -> Array:
        """Smallest along an axis."""

    def sum(self, array: Array, axis: int | tuple[int, ...], *, keep: bool = False) -> Array:
        """Along an axis, which stays with length 1 if ``keep``."""

    def std(self, array: Array, axis: int, *, keep: bool = False) -> Array:
        """Of the whole population, not of a sample."""

    def softmax(self, logits: Array) -> Array:
        """Over the last axis."""

    def norm(self, array: Array) -> Array:
        """Euclidean, over the last axis."""

    def top(self, array: Array, count: int) -> tuple[Array, Array]:
        """The greatest numbers of each row ``[B, N]``, best first, and their places, ``[B, count]`` each."""

    # -- by index --------------------------------------------------------------------------------------------------

    def take_along(self, array: Array, index: Array, axis: int) -> Array:
        """``array`` at ``index`` along an axis; the other dimensions are equal."""

    def put(self, array: Array, index: Array, values: Array) -> Array:
        """A copy with entries ``index`` ``[M]`` of the first dimension replaced by ``values`` ``[M, ...]``."""

    def nonzero(self, mask: Array) -> Array:
        """Places ``[M]`` int64 where a mask ``[B]`` is true."""

    # -- gradients -------------------------------------------------------------------------------------------------

    def no_grad(self) -> AbstractContextManager[Any]:
        """Within it no operation is recorded for gradients."""

    # -- waves -----------------------------------------------------------------------------------------------------

    def irfft(self, real: Array, imaginary: Array, length: int) -> Array:
        """The real wave of a spectrum, over the last axis."""
