"""Functions of tensors as one call into torch instead of one for each operation.

A frozen model's step is dozens of small operations. Called from Python each costs some microseconds, and each lets go
of the interpreter's lock and waits for it again: while the event loop is busy, that takes longer than the arithmetic. A
trace is the same operations in the same order, and so the same bits; this is checked when it is made.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thick.runtimes.torch.graphs import Captured

SEEN = 2
"""calls with the same shapes after which a trace is made: what is seen once may never come again"""
KEPT = 24
"""traces of a function; the oldest are evicted first"""
SETTLE = 3
"""calls in which torch makes up its mind how to run a trace"""


class Traced:
    """A function that is traced for the shapes it is called with on a CPU, and captured as a graph on a GPU.

    Args:
        function: of tensors alone, gives a tuple of new tensors; what it does depends on shapes and types, never on
            values.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        self._function = function
        self._calls: Counter[Any] = Counter()
        self._making = threading.Lock()
        self._traces: dict[Any, Callable[..., tuple[Tensor, ...]]] = {}
        self._captured = Captured(function)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        device = inputs[0].device.type
        if device == "cuda":
            return self._captured(*inputs)
        if device != "cpu" or torch.is_grad_enabled():
            return self._function(*inputs)
        kind = (torch.is_inference_mode_enabled(), *((x.shape, x.dtype) for x in inputs))
        trace = self._traces.get(kind)
        if trace is not None:
            return trace(*inputs)
        with self._making:  # plans may run side by side
            return self._made(kind, inputs)(*inputs)

    def _made(self, kind: Any, inputs: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, ...]]:
        """The trace for inputs of a kind, once they have been seen often enough; before that the function."""
        if kind in self._traces:
            return self._traces[kind]
        self._calls[kind] += 1
        if self._calls[kind] < SEEN:
            if len(self._calls) > 16 * KEPT:
                self._calls.clear()
            return self._function
        del self._calls[kind]
        trace = self._traces[kind] = self._trace(inputs)
        while len(self._traces) > KEPT:
            del self._traces[next(iter(self._traces))]
        return trace

    def _trace(self, inputs: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, ...]]:
        def function(*inputs: Tensor) -> tuple[Tensor, ...]:  # torch wants one with a name
            return self._function(*inputs)

        with warnings.catch_warnings():
            # Python decisions (which are of shapes) become part of the trace.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            # Recommended instead is a compiler that must be installed, or an export that Python runs.
            warnings.simplefilter("ignore", DeprecationWarning)
            traced: Any = torch.jit.trace(function, inputs, check_trace=False)
        wanted = self._function(*inputs)
        for _ in range(SETTLE):
            found = traced(*inputs)
            if not all(_same(x, y) for x, y in zip(found, wanted, strict=True)):
                return self._function
        return traced  # type: ignore[no-any-return]


def _same(x: Tensor, y: Tensor) -> bool:
    return x.dtype == y.dtype and x.shape == y.shape and bool(torch.equal(x.nan_to_num(), y.nan_to_num()))
