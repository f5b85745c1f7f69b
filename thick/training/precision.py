"""Which precision a run's matrix products have: asked for, or found by a trial on this machine.

bf16 is several times faster than fp32 on hardware that multiplies it, and ten times slower where it is emulated. What a
processor reports of itself does not say which (it may have the instructions and be slow in them), so it is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from thick.models.batch import Batch
from thick.training.learner import Learner

Precision = Literal["fp32", "bf16"]

WORTH = 1.1
"""bf16 is chosen when it is so many times faster: less is within what a busy machine adds"""
HOPELESS = 2.0
"""when products alone are so many times slower, no update is tried"""
ROUNDS = 3
"""updates measured in each precision"""
ENOUGH_S = 10.0
"""seconds after which no further round is begun"""


@dataclass(frozen=True)
class Trial:
    """What was measured, and what follows."""

    precision: Precision
    """what the run takes"""
    rates: dict[str, float]
    """updates a second in each precision; empty where products alone decided"""
    products: float
    """time of a product in bf16, in those of fp32"""

    def sentence(self) -> str:
        """What was found, for people."""
        if not self.rates:
            return f"precision {self.precision}: products in bf16 take {self.products:.1f} times as long here"
        return f"precision {self.precision}: " + ", ".join(
            f"{rate:.3g} updates/s in {name}" for name, rate in self.rates.items()
        )

    def slower(self) -> bool:
        """Whether updates in bf16 are slower than in fp32."""
        return self.rates.get("bf16", 0.0) < self.rates.get("fp32", 0.0)


def try_precisions(learner: Learner, batch: Batch, *, rates_wanted: bool = False) -> Trial:
    """Measure some updates in fp32 and in bf16.

    Weights, optimisers, random states and the number of updates are afterwards what they were.

    Args:
        learner: before or after any number of updates.
        batch: what it updates from.
        rates_wanted: measure updates even if products alone decide.
    """
    products = _seconds_of_product(learner, torch.bfloat16) / _seconds_of_product(learner, torch.float32)
    if products > HOPELESS and not rates_wanted:
        return Trial("fp32", {}, products)
    devices = [learner.device] if learner.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        tensors = {name: value.clone() for name, value in learner.tensors().items()}
        updates, precision = learner.updates, learner.precision
        try:
            rates = _rates(learner, batch)
        finally:
            learner.load(tensors, {"update": updates})
            learner.precision = precision
    return Trial("bf16" if rates["bf16"] > WORTH * rates["fp32"] else "fp32", rates, products)


def _rates(learner: Learner, batch: Batch) -> dict[str, float]:
    """Updates a second: the best of some, taken in turns, since other programs only ever make them slower."""
    best: dict[str, float] = {}
    began = time.perf_counter()
    for turn in range(1 + ROUNDS):  # the first is slower: memory is taken, kernels are chosen
        for precision in get_args(Precision):
            learner.precision = precision
            seconds = _seconds(lambda: learner.update(batch), learner.device)
            best[precision] = seconds if turn <= 1 else min(best[precision], seconds)
        if time.perf_counter() - began > ENOUGH_S:
            break
    return {precision: 1 / seconds for precision, seconds in best.items()}


def _seconds_of_product(learner: Learner, dtype: torch.dtype) -> float:
    config = learner.config
    width = config.model.hidden
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(config.batch * config.length, 2 * width, generator=generator)
    right = torch.randn(2 * width, width, generator=generator)
    left, right = left.to(learner.device, dtype), right.to(learner.device, dtype)
    return min(_seconds(lambda: left @ right, learner.device) for _ in range(5))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
