"""The cross-entropy method over discrete actions: one categorical for each step of the plan."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm


class CategoricalCEM:
    """Draws one-hot sequences, refits each step's probabilities to the elites; the plan is the best candidate.

    The best candidate is a sequence that was imagined as a whole; the most probable action of each step need not be
    one (two good ways round an obstacle make a bad one when mixed).

    Args:
        horizon: H.
        actions: number of actions A.
        samples: candidates of each iteration.
        smoothing: share of the old probabilities kept by a refit.
        kept: elites that join the next candidates.
    """

    takes_best = True

    def __init__(self, *, horizon: int, actions: int, samples: int, smoothing: float, kept: int = 1) -> None:
        self.horizon, self.actions, self.samples = horizon, actions, samples
        self.smoothing, self.kept = smoothing, kept

    def start(self, warm: Warm) -> Tensor:
        """Uniform probabilities ``[B, H, A]``; the previous plan is a candidate only."""
        return torch.full_like(warm.sequence, 1.0 / self.actions)

    def count(self, iteration: int) -> int:
        return self.samples

    def sample(self, parameters: Tensor, count: int, randomness: Randomness) -> Tensor:
        below = parameters.cumsum(-1).unsqueeze(1)  # [B, 1, H, A]
        uniform = randomness.uniform(count, self.horizon).unsqueeze(-1)
        index = (below <= uniform).sum(-1).clamp_(max=self.actions - 1)  # [B, N, H]
        return F.one_hot(index, self.actions).to(parameters.dtype)

    def refit(self, parameters: Tensor, elites: Tensor, scores: Tensor) -> Tensor:
        return self.smoothing * parameters + (1 - self.smoothing) * elites.mean(1)

    def centre(self, parameters: Tensor) -> Tensor:
        """The most probable action of each step."""
        return F.one_hot(parameters.argmax(-1), self.actions).to(parameters.dtype)
