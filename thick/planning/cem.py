"""The cross-entropy method over continuous actions (PlaNet: Hafner et al., 2019)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm


class Gaussian(NamedTuple):
    """Independent normals over the steps and dimensions of a plan."""

    mean: Tensor
    """[B, H, A]"""
    std: Tensor
    """[B, H, A]"""


class ActionRange:
    """Bounds of a continuous action; unbounded dimensions count as a range of [-1, 1] that is never clipped.

    Args:
        low, high: ``[A]``.
    """

    def __init__(self, low: Tensor, high: Tensor) -> None:
        self.low, self.high = low, high
        bounded = torch.isfinite(low) & torch.isfinite(high)
        self.middle = torch.where(bounded, (low + high) / 2, torch.zeros_like(low))
        self.half = torch.where(bounded, (high - low) / 2, torch.ones_like(low))

    def clip(self, actions: Tensor) -> Tensor:
        """Actions ``[..., A]`` within the bounds."""
        return torch.minimum(torch.maximum(actions, self.low), self.high)


class CEM:
    """Draws around a mean, refits mean and standard deviation to the elites; the plan is the mean.

    Args:
        horizon: H.
        actions: bounds.
        samples: candidates of each iteration.
        smoothing: share of the old parameters kept by a refit.
        minimum_std: smallest standard deviation, in units of half the action range.
    """

    kept = 0

    def __init__(
        self,
        *,
        horizon: int,
        actions: ActionRange,
        samples: int,
        smoothing: float = 0.0,
        minimum_std: float = 0.0,
    ) -> None:
        self.horizon, self.actions, self.samples = horizon, actions, samples
        self.smoothing, self.minimum_std = smoothing, minimum_std

    def start(self, warm: Warm) -> Gaussian:
        """N(0, 1) in units of half the action range, as PlaNet; the previous plan is a candidate only."""
        mean = self.actions.middle.expand_as(warm.sequence).clone()
        return Gaussian(mean, self.actions.half.expand_as(mean).clone())

    def count(self, iteration: int) -> int:
        return self.samples

    def noise(self, batch: int, count: int, randomness: Randomness) -> Tensor:
        """White noise ``[B, N, H, A]``."""
        return randomness.normal(count, self.horizon, self.actions.low.shape[0])

    def sample(self, parameters: Gaussian, count: int, randomness: Randomness) -> Tensor:
        noise = self.noise(parameters.mean.shape[0], count, randomness)
        return self.actions.clip(parameters.mean.unsqueeze(1) + parameters.std.unsqueeze(1) * noise)

    def refit(self, parameters: Gaussian, elites: Tensor, scores: Tensor) -> Gaussian:
        return self._blend(parameters, elites.mean(1), elites.std(1, correction=0))

    def centre(self, parameters: Gaussian) -> Tensor:
        return self.actions.clip(parameters.mean)

    def plan(self, parameters: Gaussian, elites: Tensor, scores: Tensor) -> Tensor:
        return self.centre(parameters)

    def _blend(self, old: Gaussian, mean: Tensor, std: Tensor) -> Gaussian:
        keep = self.smoothing
        std = torch.maximum(keep * old.std + (1 - keep) * std, self.minimum_std * self.actions.half)
        return Gaussian(keep * old.mean + (1 - keep) * mean, std)
