"""Updates measured on this machine, by which a run chooses how it computes; they leave no trace in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch

from thick.models.batch import Batch
from thick.training.learner import Learner

ROUNDS = 3
"""updates measured in each form"""
ENOUGH_S = 10.0
"""seconds after which no further round is begun"""

Form = TypeVar("Form")


@contextlib.contextmanager
def without_trace(learner: Learner) -> Iterator[None]:
    """Afterwards weights, optimisers, random states, precision and the number of updates are what they were."""
    devices = [learner.device] if learner.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        tensors = {name: value.clone() for name, value in learner.tensors().items()}
        updates, precision = learner.updates, learner.precision
        try:
            yield
        finally:
            learner.load(tensors, {"update": updates})
            learner.precision = precision


def rates(learner: Learner, batch: Batch, forms: Mapping[Form, Callable[[], None]]) -> dict[Form, float]:
    """Updates a second: the best of some, taken in turns, since other programs only ever make them slower.

    Args:
        batch: what it updates from.
        forms: what to do before an update, by what is compared.
    """
    best: dict[Form, float] = {}
    began = time.perf_counter()
    for turn in range(1 + ROUNDS):  # the first is slower: memory is taken, kernels are chosen
        for form, prepare in forms.items():
            prepare()
            taken = seconds(lambda: learner.update(batch), learner.device)
            best[form] = taken if turn <= 1 else min(best[form], taken)
        if time.perf_counter() - began > ENOUGH_S:
            break
    return {form: 1 / taken for form, taken in best.items()}


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time of some work, until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
