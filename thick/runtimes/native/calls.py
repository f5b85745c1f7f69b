"""Arrays on their way to a kernel and back: their shapes are checked here, since C does not check them."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from thick.runtimes.native import library as native


def batched(lead: tuple[int, ...]) -> int:
    """Rows of arrays with so many leading dimensions."""
    return math.prod(lead)


def numbers(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A contiguous float32 array of this very shape.

    Raises:
        ValueError: it has another.
    """
    if array.shape != shape:
        raise ValueError(f"expected an array {list(shape)}, got {list(array.shape)}")
    return np.ascontiguousarray(array, np.float32)


def whole(array: np.ndarray, shape: tuple[int, ...], classes: int) -> np.ndarray:
    """A contiguous int64 array of this very shape with classes in [-1, classes).

    Raises:
        ValueError: it has another shape, or a class that there is not.
    """
    if array.shape != shape or array.dtype.kind not in "iu":
        raise ValueError(f"expected whole numbers {list(shape)}, got {array.dtype} {list(array.shape)}")
    made = np.ascontiguousarray(array, np.int64)
    if (
        made.size and (made + 1).view(np.uint64).max() > classes
    ):  # -1 is 0 there, and what is below it is huge
        raise ValueError(f"expected classes from 0 to {classes - 1}, got {made.min()} to {made.max()}")
    return made


def chained(
    chain: Any, lead: int, stoch: np.ndarray | None, rest: np.ndarray, classes: int = 0
) -> np.ndarray:
    """Output ``[*B, O]`` of a chain (``[*B]`` numbers as ``[*B, 1]``).

    Args:
        lead: floats of a row of its buffers.
        stoch: ``[*B, groups]`` where it reads classes.
        rest: ``[*B, I]`` of its first layer.
        classes: more than any of ``stoch``; 0 where that was seen to.
    """
    shape = rest.shape[:-1]
    where, inputs, outputs, width, groups = facts(chain)
    x = numbers(rest, (*shape, inputs))
    z = stoch if stoch is None or not classes else whole(stoch, (*shape, groups), classes)
    y = np.empty((*shape, width), np.float32)
    job = native.ChainRows(where, 0 if z is None else native.address(z), native.address(x), native.address(y))
    native.run(native.CHAIN, job, batched(shape), lead)
    return y if width == outputs else y[..., :outputs]


def facts(chain: Any) -> tuple[int, int, int, int, int]:
    """Where a chain lies, its inputs and outputs, columns of its outputs and groups of classes, looked up once: each
    question to a C record makes an object."""
    try:
        found: tuple[int, int, int, int, int] = chain.facts
    except AttributeError:
        outputs = int(chain.layer[chain.layers - 1].outputs)
        width = 1 if outputs == 1 and chain.layers > 1 and chain.linear else native.padded(outputs)
        inputs = int(chain.layer[0].inputs)
        found = chain.facts = ctypes.addressof(chain), inputs, outputs, width, int(chain.groups)
    return found
