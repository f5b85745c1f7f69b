"""Functions replayed as CUDA graphs: one launch in place of one for each operation."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

SEEN = 2
"""calls with the same shapes after which a graph is made: the first ones build kernels and make room"""
KEPT = 32
"""graphs of a function; the oldest are evicted first"""

_state = threading.local()


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Within it functions run as they are, because all they do becomes part of a larger graph."""
    before, _state.recording = getattr(_state, "recording", False), True
    try:
        yield
    finally:
        _state.recording = before


def padded(rows: int) -> int:
    """The next power of two: few shapes, so that each is met before long."""
    return 1 << (rows - 1).bit_length()


class Captured:
    """A function that is replayed for the shapes it was called with.

    Args:
        function: of tensors with the same first dimension, gives a tuple of new tensors with it; a row of the results
            depends on that row of the tensors alone, and what is done on shapes and types, never on values.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        self._function = function
        self._calls: Counter[Any] = Counter()
        self._graphs: dict[Any, Graph] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        alone = getattr(_state, "recording", False) or not torch.is_inference_mode_enabled()
        if alone or inputs[0].device.type != "cuda":
            return self._function(*inputs)
        rows = inputs[0].shape[0]
        many = padded(rows)
        kind = (many, *((x.shape[1:], x.dtype) for x in inputs))
        graph = self._graphs.get(kind)
        if graph is None:
            self._calls[kind] += 1
            if self._calls[kind] < SEEN:
                return self._function(*inputs)
            graph = self._graphs[kind] = Graph(self._function, room(inputs, many))
            while len(self._graphs) > KEPT:
                del self._graphs[next(iter(self._graphs))]
        return graph(*inputs)


class Graph:
    """One graph of a function.

    Args:
        function: see :class:`Captured`.
        inputs: tensors that are read; they must hold what the function can work with.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor]) -> None:
        self._inputs, self._graph = inputs, torch.cuda.CUDAGraph()
        with recording(), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(*inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        load(self._inputs, inputs)
        self._graph.replay()
        rows = inputs[0].shape[0]
        return tuple(x[:rows].clone() for x in self._outputs)


def room(inputs: tuple[Tensor, ...] | list[Tensor], rows: int) -> list[Tensor]:
    """Tensors of ``rows`` rows that hold ``inputs`` and, beyond, its first row again."""
    made = [x[:1].repeat(rows, *[1] * (x.ndim - 1)) for x in inputs]
    load(made, inputs)
    return made


def load(targets: list[Tensor], inputs: tuple[Tensor, ...] | list[Tensor]) -> None:
    """Write ``inputs`` into the first rows of ``targets``."""
    pairs = [(target[: x.shape[0]], x) for target, x in zip(targets, inputs, strict=True) if x.numel()]
    torch._foreach_copy_([target for target, _ in pairs], [x for _, x in pairs])
