"""MPPI: the plan moves to the elites' mean, weighted by the exponential of their scores (Williams et al., 2015)."""

from __future__ import annotations

from thick.arrays import Array, of
from thick.planning.actions import ActionRange
from thick.planning.cem import CEM, Gaussian, common
from thick.planning.low import LowProblem, sampled
from thick.planning.sampling import Warm, weights
from thick.planning.searches import LowSearch


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
        return Gaussian(
            of(warm.sequence).where(warm.valid[:, None, None], warm.sequence, wide.mean), wide.std
        )

    def refit(self, parameters: Gaussian, elites: Array, scores: Array) -> Gaussian:
        weight = weights(scores, self.sharpness)[..., None, None]  # [B, M, 1, 1]
        mean = (weight * elites).sum(1)
        off = elites - mean[:, None]
        variance = (weight * (off * off)).sum(1)
        return self._blend(parameters, mean, of(variance).sqrt(variance))


def low_search(problem: LowProblem) -> LowSearch:
    """MPPI for a problem."""
    return sampled(problem, MPPI(**common(problem), sharpness=problem.settings.sharpness))
