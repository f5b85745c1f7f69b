"""MPPI: the plan moves to the elites' mean, weighted by the exponential of their scores (Williams et al., 2015)."""

from __future__ import annotations

import torch
from torch import Tensor

from thick.planning.cem import CEM, ActionRange, Gaussian
from thick.planning.sampling import Warm, weights


class MPPI(CEM):
    """Path integral control as in TD-MPC (Hansen et al., 2022): weighted refits of mean and standard deviation.

    Args:
        horizon, actions, samples, smoothing, minimum_std: as :class:`~thick.planning.cem.CEM`.
        sharpness: temperature of the weights, in standard deviations of the elites' scores, so that it means the
            same for every scale of reward.
    """

    def __init__(
        self,
        *,
        horizon: int,
        actions: ActionRange,
        samples: int,
        smoothing: float,
        minimum_std: float,
        sharpness: float,
    ) -> None:
        super().__init__(
            horizon=horizon, actions=actions, samples=samples, smoothing=smoothing, minimum_std=minimum_std
        )
        self.sharpness = sharpness

    def start(self, warm: Warm) -> Gaussian:
        """The previous plan where there is one."""
        wide = super().start(warm)
        return Gaussian(torch.where(warm.valid[:, None, None], warm.sequence, wide.mean), wide.std)

    def refit(self, parameters: Gaussian, elites: Tensor, scores: Tensor) -> Gaussian:
        weight = weights(scores, self.sharpness)[..., None, None]  # [B, M, 1, 1]
        mean = (weight * elites).sum(1)
        variance = (weight * (elites - mean.unsqueeze(1)).square()).sum(1)
        return self._blend(parameters, mean, variance.clamp_min(0).sqrt())
