"""Graphs that run: sessions of ONNX Runtime, and how a batch is given to them.

The last bits of a product depend on how many rows it has, so rows are given in portions whose sizes do not depend on
the number of sessions. Where each session has several rows (candidates of a search), every session's rows go in
portions of their own, at most ``PORTION`` together: threads take these as they are free, and the numbers are the same
with any number of threads. Where each session has one, ``GROUP`` of them share a call, if a trial on this machine gives
every row the bits that it has by itself wherever it stands; else each goes alone.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import onnxruntime

PORTION = 128
"""rows of one session in a call at most"""
GROUP = 4
"""sessions with one row each that share a call"""

_threads = threading.local()


def use_threads(count: int) -> None:
    """From now on, so many threads compute what the calling thread asks for."""
    _threads.count = count


class Step:
    """A graph that runs.

    Args:
        content: of its file.
        tensors: the model's weights by name, as ONNX Runtime holds them.
    """

    def __init__(self, content: bytes, tensors: Mapping[str, onnxruntime.OrtValue]) -> None:
        options = onnxruntime.SessionOptions()
        # Threads are ours (see above), and none of them may spin while it waits.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        names = external_tensors(content)
        options.add_external_initializers(names, [tensors[name] for name in names])
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: each for each in self._session.get_inputs()}
        self.outputs = {each.name: tuple(each.shape[1:]) for each in self._session.get_outputs()}
        self._group = GROUP if self._alike() else 1

    def __call__(self, *lead: int, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs ``[*lead, ...]`` of inputs ``[*lead, ...]``; what the graph does not take is left out."""
        given = {
            name: np.ascontiguousarray(array).reshape(-1, *array.shape[len(lead) :])
            for name, array in arrays.items()
            if name in self.inputs
        }
        sessions, each = (lead[0], math.prod(lead[1:])) if lead else (1, 1)
        if not sessions * each:
            raise ValueError(f"expected at least one row, got a batch {list(lead)}")
        if each == 1:
            done = self._grouped(given, sessions)
        else:
            done = self._portioned(given, sessions, each)
        return {name: array.reshape(*lead, *array.shape[1:]) for name, array in done.items()}

    def _grouped(self, given: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        fill = -rows % self._group
        if fill:
            given = {
                k: np.concatenate([x, np.zeros((fill, *x.shape[1:]), x.dtype)]) for k, x in given.items()
            }
        done = self._run(given, _portions(0, rows + fill, self._group))
        return {name: array[:rows] for name, array in done.items()} if fill else done

    def _portioned(self, given: Mapping[str, np.ndarray], sessions: int, each: int) -> dict[str, np.ndarray]:
        begins = range(0, sessions * each, each)
        return self._run(
            given, [part for begin in begins for part in _portions(begin, begin + each, PORTION)]
        )

    def _run(self, given: Mapping[str, np.ndarray], portions: Sequence[slice]) -> dict[str, np.ndarray]:
        names = list(self.outputs)

        def run(part: slice) -> list[np.ndarray]:
            found: list[np.ndarray] = self._session.run(names, {k: x[part] for k, x in given.items()})
            return found

        done = [run(portions[0])] if len(portions) == 1 else _in_threads(run, portions)
        if len(done) == 1:
            return dict(zip(names, done[0], strict=True))
        return {
            name: np.concatenate(parts) for name, parts in zip(names, zip(*done, strict=True), strict=True)
        }

    def _alike(self) -> bool:
        """Whether a row has the same bits at every place of a group, whatever its neighbours are.

        The order in which a product is added up depends on shapes and places, not on values: so random ones show it.
        """
        rng = np.random.default_rng(0)
        group = {name: _random(each, GROUP, rng) for name, each in self.inputs.items()}
        together = self._session.run(None, group)
        for place in range(GROUP):
            alone = {name: np.zeros_like(array) for name, array in group.items()}
            for name, array in group.items():
                alone[name][0] = array[place]
            found = self._session.run(None, alone)
            if any(x[place].tobytes() != y[0].tobytes() for x, y in zip(together, found, strict=True)):
                return False
        return True


def external_tensors(content: bytes) -> list[str]:
    """Names of the weights that a graph refers to, from the file of a graph (the protobuf message ``ModelProto``)."""
    names = []
    for graph in _fields(content, 7):
        for tensor in _fields(graph, 5):
            if any(_fields(tensor, 13)):  # external_data
                names += [name.decode() for name in _fields(tensor, 8)]
    return names


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """The contents of a field of a protobuf message, where these are bytes.

    Raises:
        ValueError: it is no such message.
    """
    view, at = memoryview(message), 0
    try:
        while at < len(view):
            key, at = _varint(view, at)
            kind, size = key & 7, 0
            if kind == 0:
                _, at = _varint(view, at)
            elif kind == 2:
                size, at = _varint(view, at)
                if key >> 3 == wanted:
                    yield bytes(view[at : at + size])
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise ValueError(f"unknown kind of field {kind}")
            at += size
    except IndexError as error:
        raise ValueError("the message is cut off") from error


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")


def _portions(begin: int, end: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, end)) for at in range(begin, end, size)]


def _random(argument: Any, rows: int, rng: np.random.Generator) -> np.ndarray:
    shape = (rows, *argument.shape[1:])
    name = argument.type.removeprefix("tensor(").removesuffix(")")
    dtype = np.dtype(_OTHER_NAMES.get(name, name))
    return (rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)).astype(dtype)


_OTHER_NAMES = {"float": "float32", "double": "float64"}
"""what ONNX Runtime calls otherwise than numpy"""


# -- threads ---------------------------------------------------------------------------------------------------------


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of a process; a child that was forked has none of its parent's."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="onnx")


def _in_threads(function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
    """What a function makes of each task, in order."""
    count = min(getattr(_threads, "count", 1), len(tasks))
    if count <= 1:
        return [function(task) for task in tasks]
    todo, done = iter(range(len(tasks))), [None] * len(tasks)

    def work() -> None:
        for index in todo:  # a thread takes the next as it is free
            done[index] = function(tasks[index])

    helpers = [_pool(os.getpid()).submit(work) for _ in range(count - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    return done
