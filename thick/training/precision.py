"""Which precision a run's matrix products have: asked for, or found by a trial on this machine.

bf16 is several times faster than fp32 on hardware that multiplies it, and ten times slower where it is emulated. What a
processor reports of itself does not say which (it may have the instructions and be slow in them), so it is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch

from thick.models.batch import Batch
from thick.training import trials
from thick.training.learner import Learner

Precision = Literal["fp32", "bf16"]

WORTH = 1.1
"""bf16 is chosen when it is so many times faster: less is within what a busy machine adds"""
HOPELESS = 2.0
"""when products alone are so many times slower, no update is tried"""


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
    with trials.without_trace(learner):
        rates = _rates(learner, batch)
    return Trial("bf16" if rates["bf16"] > WORTH * rates["fp32"] else "fp32", rates, products)


def _rates(learner: Learner, batch: Batch) -> dict[str, float]:
    """Updates a second in each precision."""
    forms = {name: partial(setattr, learner, "precision", name) for name in get_args(Precision)}
    return trials.rates(learner, batch, forms)


def _seconds_of_product(learner: Learner, dtype: torch.dtype) -> float:
    config = learner.config
    width = config.model.hidden
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(config.batch * config.length, 2 * width, generator=generator)
    right = torch.randn(2 * width, width, generator=generator)
    left, right = left.to(learner.device, dtype), right.to(learner.device, dtype)
    return min(trials.seconds(lambda: left @ right, learner.device) for _ in range(5))
