"""Counter-based random numbers: a pure function of a key for each session, the purpose and the place in a tensor.

There is no generator and no state. A session's numbers do not depend on who else is in its batch, on the order of calls
or on the device, so a plan can be repeated from its key alone. The function is SplitMix64 read at a position (Steele,
Lea, Flood: Fast splittable pseudorandom number generators, 2014). Integers and uniform numbers are the same in numpy
and torch to the last bit; normal and Gumbel numbers, which need a logarithm, to within a step or two of the last.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

from thick.arrays import Array, of


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_INT64 = (np.dtype(np.int64),)
_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)
_TAG = 0x2545F4914F6CDD1D


class Randomness:
    """Random numbers for B sessions at once.

    The bits of element n of a tensor ``[B, *shape]``, counted in its row-major order without B, are
    ``mix(key + (n + 1 + row · size of a row) · golden)``, with SplitMix64's finaliser ``mix`` and golden ratio.

    Args:
        keys: ``[B]`` int64, one key a session (:func:`thick.planning.settings.session_key`).
        row: of the tensors that are drawn, the first dimension begins there.
    """

    def __init__(self, keys: Array, row: int = 0) -> None:
        if keys.ndim != 1 or (keys.dtype not in _INT64 and str(keys.dtype) != "torch.int64"):
            raise ValueError(f"keys: expected an int64 array [B], got {keys.dtype} {list(keys.shape)}")
        self._keys: Array | None = keys
        self.row = row
        self._folded: tuple[Randomness, int] | None = None

    @property
    def keys(self) -> Array:
        """``[B]`` int64"""
        if self._keys is None:  # now somebody wants to know
            assert self._folded is not None
            before, offset = self._folded
            fused = of(before.keys).random
            if fused is None:
                self._keys = _mix(before.keys * _FIRST + offset)
            else:
                self._keys = fused.fold(before.keys, offset, 0, 1)[0]
            self._folded = None
        return self._keys

    def _with(self, keys: Array | None, row: int) -> Randomness:
        made = object.__new__(Randomness)
        made._keys, made.row, made._folded = keys, row, None
        return made

    def rows(self, first: int) -> Randomness:
        """What is drawn from it are the rows from ``first`` on of what is drawn from this: a part of a large tensor."""
        return self._with(self.keys, self.row + first)

    def fold(self, tag: int | str) -> Randomness:
        """Independent randomness for another purpose or another step."""
        number = zlib.crc32(tag.encode()) + (1 << 40) if isinstance(tag, str) else tag
        offset = _signed((number + 1) * _TAG & (1 << 64) - 1)
        folded = self._with(None, self.row)
        folded._folded = self, offset  # many are made for what then draws nothing
        return folded

    def folds(self, count: int) -> Array:
        """Keys of ``fold(0)`` … ``fold(count - 1)``, ``[count, B]`` int64, in one go."""
        xp = of(self.keys)
        if xp.random is not None:
            folded: Array = xp.random.fold(self.keys, _TAG, _TAG, count)
            return folded
        return _mix(self.keys[None] * _FIRST + (xp.arange(1, count + 1) * _TAG)[:, None])

    def select(self, index: Array) -> Randomness:
        """The randomness of some of the sessions."""
        return self._with(self.keys[index], self.row)

    def on_host(self) -> Randomness:
        """The same for arrays of numpy."""
        return self._with(of(self.keys).numpy(self.keys), self.row)

    def uniform(self, *shape: int) -> Array:
        """Multiples of 2⁻²⁴ in [0, 1), float32 ``[B, *shape]``."""
        return self._whole(shape) * 2.0**-24

    def normal(self, *shape: int) -> Array:
        """Standard normal numbers, float32 ``[B, *shape]``, by the inverse of the distribution function."""
        xp = of(self.keys)
        centred = (self._whole(shape) + 0.5) * 2.0**-23 - 1.0
        # (2^24 - 0.5) · 2^-23 - 1 rounds to 1 in float32, where erfinv is infinite.
        return xp.erfinv(xp.clip(centred, high=1.0 - 2.0**-24)) * math.sqrt(2.0)

    def gumbel(self, *shape: int) -> Array:
        """Standard Gumbel numbers, float32 ``[B, *shape]``."""
        xp = of(self.keys)
        return -xp.log(-xp.log(self.uniform(*shape) + 2.0**-25))

    def _whole(self, shape: tuple[int, ...]) -> Array:
        """Whole numbers of 24 random bits as float32 ``[B, *shape]``."""
        count, first = math.prod(shape), self.row * math.prod(shape[1:])
        return _bits(self.keys, first, count).reshape(self.keys.shape[0], *shape)


def _bits(keys: Array, first: int, count: int) -> Array:
    """Whole numbers of 24 random bits as float32 ``[B, count]``, from the counter ``first`` on."""
    xp = of(keys)
    if xp.random is not None:
        drawn: Array = xp.random.bits(keys, first, count)
        return drawn
    counter = xp.arange(first + 1, first + count + 1) * _GOLDEN
    bits = _mix(keys[:, None] + counter)  # wraps around, as it should
    return xp.as_float((bits >> 40) & 0xFFFFFF)


def _mix(x: Array) -> Array:
    """SplitMix64's finaliser; ``>>`` is arithmetic, so the bits it shifts in are masked away."""
    x = x ^ ((x >> 30) & ((1 << 34) - 1))
    x *= _FIRST
    x ^= (x >> 27) & ((1 << 37) - 1)
    x *= _SECOND
    x ^= (x >> 31) & ((1 << 33) - 1)
    return x
