"""The cross-entropy method over continuous actions (PlaNet: Hafner et al., 2019)."""

from __future__ import annotations

from typing import Any, NamedTuple

from thick.arrays import Array, of
from thick.planning.actions import ActionRange
from thick.planning.low import LowProblem, sampled
from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm
from thick.planning.searches import LowSearch


class Gaussian(NamedTuple):
    """Independent normals over the steps and dimensions of a plan."""

    mean: Array
    """[B, H, A]"""
    std: Array
    """[B, H, A]"""


class CEM:
    """Draws around a mean, refits mean and standard deviation to the elites; the plan is the mean.

    What is imagined is within the range of actions; what is refitted is as it was drawn. Refitted to what was cut off
    at the range, the mean could never come to lie at its ends, where many tasks want it, and the spread would shrink.

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
        xp, shape = of(warm.sequence), warm.sequence.shape
        return Gaussian(
            *(xp.copy(xp.expand(part, *shape)) for part in (self.actions.middle, self.actions.half))
        )

    def count(self, iteration: int) -> int:
        return self.samples

    def noise(self, batch: int, count: int, randomness: Randomness) -> Array:
        """White noise ``[B, N, H, A]``."""
        return randomness.normal(count, self.horizon, self.actions.low.shape[0])

    def sample(self, parameters: Gaussian, count: int, randomness: Randomness) -> Array:
        noise = self.noise(parameters.mean.shape[0], count, randomness)
        return parameters.mean[:, None] + parameters.std[:, None] * noise

    def within(self, candidates: Array) -> Array:
        return self.actions.clip(candidates)

    def refit(self, parameters: Gaussian, elites: Array, scores: Array) -> Gaussian:
        return self._blend(parameters, elites.mean(1), of(elites).std(elites, 1))

    def centre(self, parameters: Gaussian) -> Array:
        return self.actions.clip(parameters.mean)

    def plan(self, parameters: Gaussian, elites: Array, scores: Array) -> Array:
        return self.centre(parameters)

    def alike(self, actions: Array, action: Array) -> Array:
        """Within a tenth of half the range in every dimension."""
        off = of(actions).maximum(actions - action[:, None], action[:, None] - actions)
        return (off <= 0.1 * self.actions.half).all(-1)

    def _blend(self, old: Gaussian, mean: Array, std: Array) -> Gaussian:
        keep = self.smoothing
        std = of(std).maximum(keep * old.std + (1 - keep) * std, self.minimum_std * self.actions.half)
        return Gaussian(keep * old.mean + (1 - keep) * mean, std)


def low_search(problem: LowProblem) -> LowSearch:
    """CEM for a problem."""
    return sampled(problem, CEM(**common(problem)))


def common(problem: LowProblem) -> dict[str, Any]:
    """The arguments that CEM and its variants share."""
    settings = problem.settings
    return {
        "horizon": settings.horizon,
        "actions": problem.actions.bounds,
        "samples": settings.samples,
        "smoothing": settings.smoothing,
        "minimum_std": settings.minimum_std,
    }
