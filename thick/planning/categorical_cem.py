"""The cross-entropy method over discrete actions: one categorical for each step of the plan."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm, weights


class CategoricalCEM:
    """Draws one-hot sequences, refits each step's probabilities to the elites, weighted by how good they are.

    The weights matter where rewards are rare: a hundred elites of which three found a reward would otherwise be
    refitted to the ninety-seven. The plan is the best elite among those that begin with the action that most of the
    weight begins with. A whole elite, since it was imagined as one: the most probable action of each step need not be
    a sequence at all (two good ways round an obstacle make a bad one when mixed). By weight, since with sampled states
    the best single candidate is often just the luckiest.

    Args:
        horizon: H.
        actions: number of actions A.
        samples: candidates of each iteration.
        smoothing: share of the old probabilities kept by a refit.
        sharpness: temperature of the weights, in standard deviations of the elites' scores.
        kept: elites that join the next candidates.
    """

    def __init__(
        self,
        *,
        horizon: int,
        actions: int,
        samples: int,
        smoothing: float,
        sharpness: float = 1.0,
        kept: int = 1,
    ) -> None:
        self.horizon, self.actions, self.samples = horizon, actions, samples
        self.smoothing, self.sharpness, self.kept = smoothing, sharpness, kept

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
        weight = weights(scores, self.sharpness)[..., None, None]
        return self.smoothing * parameters + (1 - self.smoothing) * (weight * elites).sum(1)

    def centre(self, parameters: Tensor) -> Tensor:
        """The most probable action of each step."""
        return F.one_hot(parameters.argmax(-1), self.actions).to(parameters.dtype)

    def plan(self, parameters: Tensor, elites: Tensor, scores: Tensor) -> Tensor:
        first = elites[:, :, 0]  # [B, M, A]
        share = (weights(scores, self.sharpness).unsqueeze(-1) * first).sum(1)  # [B, A]
        begins = first.gather(-1, share.argmax(-1)[:, None, None].expand(-1, first.shape[1], 1)).squeeze(-1)
        best = begins.argmax(1)  # the first, and so the best, that begins with it
        return elites[torch.arange(best.shape[0], device=best.device), best]
