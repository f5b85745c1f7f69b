"""Updates on a GPU, recorded once as a CUDA graph and replayed: one launch in place of thousands of small ones.

An update does the same operations whatever its numbers are: shapes on a GPU never depend on values
(:func:`thick.learners.parts.fixed_shapes`), and what changes from update to update beside the batch, learning rates and
weights of loss terms, is read from the device. Random numbers go on as they would: torch's generator counts replays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from thick.models.batch import Batch, Start
from thick.models.beliefs import State

WARM = 2
"""updates made operation by operation before one is recorded: the first build kernels, and the optimisers' moments"""

Number = float | Tensor


class Schedules(NamedTuple):
    """What an update takes beside its batch: by part and name of the term or group."""

    scales: Mapping[str, Mapping[str, Number]]
    """weights of the loss terms"""
    rates: Mapping[str, Mapping[str, Number]]
    """learning rates of the groups"""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are updated, in their order."""
        return tuple(self.scales)


class Updated(NamedTuple):
    """What an update says."""

    log: dict[str, Tensor]
    """losses and metrics, scalars without gradient"""
    filtered: State
    """states ``[B, T, ...]`` of the batch, without gradient; those of a replay are overwritten by the next one"""


Update = Callable[[Batch, Schedules], Updated]


class RecordedUpdates:
    """An update that is replayed from the third time on that it is made of the same parts, with batches of one shape.

    Args:
        update: what is recorded. What it reads and writes beside its arguments must stay where it is on the device
            (weights, moments), until :meth:`forget` is called.
        device: a CUDA device.
    """

    def __init__(self, update: Update, device: torch.device) -> None:
        self._update, self._device = update, device
        self._met: Counter[object] = Counter()
        self._recordings: dict[object, _Recording] = {}

    def __call__(self, kind: object, batch: Batch, schedules: Schedules) -> Updated:
        """One update.

        Args:
            kind: whatever else makes one update another than the next (the precision, say).
            batch: on the device.
            schedules: plain numbers.
        """
        with torch.cuda.device(self._device):
            key = (kind, schedules.parts, _form(batch))
            if key not in self._recordings:
                self._met[key] += 1
                if self._met[key] <= WARM:
                    return self._update(batch, _on_device(schedules, _numbers(schedules, self._device)))
                self._recordings[key] = _Recording(self._update, batch, schedules, self._device)
            return self._recordings[key](batch, schedules)

    def forget(self) -> None:
        """Record anew: moments or weights are elsewhere now."""
        self._recordings.clear()
        self._met.clear()


class _Recording:
    """One graph, and the tensors that it reads and writes."""

    def __init__(self, update: Update, batch: Batch, schedules: Schedules, device: torch.device) -> None:
        self._batch = _copied(batch)
        self._numbers = _numbers(schedules, device)
        own = _on_device(schedules, self._numbers)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            updated = update(self._batch, own)
            self._log = torch.stack([value.double().reshape(()) for value in updated.log.values()])
        self._names, self._filtered = tuple(updated.log), updated.filtered

    def __call__(self, batch: Batch, schedules: Schedules) -> Updated:
        for own, given in zip(_tensors(self._batch), _tensors(batch), strict=True):
            own.copy_(given)
        self._numbers.copy_(_numbers(schedules, torch.device("cpu")))
        self._graph.replay()
        return Updated(dict(zip(self._names, self._log.clone().unbind(), strict=True)), self._filtered)


def _tensors(batch: Batch) -> list[Tensor]:
    """All of them, in one order."""
    rest = (batch.action, batch.reward, batch.is_first, batch.is_terminal, *(batch.start or ()))
    return [*batch.observation.values(), *rest]


def _form(batch: Batch) -> tuple[object, ...]:
    return tuple((x.shape, x.dtype) for x in _tensors(batch)), tuple(batch.observation), batch.start is None


def _copied(batch: Batch) -> Batch:
    observation = {name: x.clone() for name, x in batch.observation.items()}
    start = None if batch.start is None else Start(*(x.clone() for x in batch.start))
    rest = {name: getattr(batch, name).clone() for name in ("action", "reward", "is_first", "is_terminal")}
    return Batch(observation, **rest, start=start)


def _numbers(schedules: Schedules, device: torch.device) -> Tensor:
    """All of them ``[n]`` in fp32."""
    flat = [float(number) for table in schedules for numbers in table.values() for number in numbers.values()]
    return torch.tensor(flat, dtype=torch.float32).to(device)


def _on_device(schedules: Schedules, numbers: Tensor) -> Schedules:
    """The same names, with views of the numbers on the device."""
    rest = iter(numbers.unbind())
    return Schedules(
        *(
            {part: {name: next(rest) for name in numbers} for part, numbers in table.items()}
            for table in schedules
        )
    )
