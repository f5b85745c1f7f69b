"""The cross-entropy method over discrete actions: one categorical for each step of the plan."""

from __future__ import annotations

from thick.arrays import Array, of
from thick.planning.low import LowProblem, sampled
from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm, weights
from thick.planning.searches import LowSearch


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
        self._latest: tuple[Array, Array] | None = None

    def start(self, warm: Warm) -> Array:
        """Uniform probabilities ``[B, H, A]``; the previous plan is a candidate only."""
        return of(warm.sequence).full(warm.sequence.shape, 1.0 / self.actions)

    def count(self, iteration: int) -> int:
        return self.samples

    def sample(self, parameters: Array, count: int, randomness: Randomness) -> Array:
        xp = of(parameters)
        below = parameters.cumsum(-1)[:, None]  # [B, 1, H, A]
        index = xp.drawn(below, randomness.uniform(count, self.horizon))  # [B, N, H]
        return xp.one_hot(index, self.actions)

    def within(self, candidates: Array) -> Array:
        return candidates

    def refit(self, parameters: Array, elites: Array, scores: Array) -> Array:
        weight = self._weights(scores)[..., None, None]
        return self.smoothing * parameters + (1 - self.smoothing) * (weight * elites).sum(1)

    def _weights(self, scores: Array) -> Array:
        """Of elites; those of the latest scores are kept, since a plan asks after a refit."""
        if self._latest is None or self._latest[0] is not scores:
            self._latest = scores, weights(scores, self.sharpness)
        return self._latest[1]

    def centre(self, parameters: Array) -> Array:
        """The most probable action of each step."""
        return of(parameters).one_hot(parameters.argmax(-1), self.actions)

    def alike(self, actions: Array, action: Array) -> Array:
        """The same choice."""
        return actions.argmax(-1) == action.argmax(-1)[:, None]

    def plan(self, parameters: Array, elites: Array, scores: Array) -> Array:
        rows = of(elites).arange(elites.shape[0])
        first = elites[:, :, 0]  # [B, M, A]
        share = (self._weights(scores)[..., None] * first).sum(1)  # [B, A]
        begins = first[rows, :, share.argmax(-1)]  # [B, M], 1 where an elite begins with that action
        best = begins.argmax(1)  # the first, and so the best, that begins with it
        return elites[rows, best]


def low_search(problem: LowProblem) -> LowSearch:
    """The categorical CEM for a problem."""
    settings = problem.settings
    sampler = CategoricalCEM(
        horizon=settings.horizon,
        actions=problem.actions.size,
        samples=settings.samples,
        smoothing=settings.smoothing,
        sharpness=settings.sharpness,
    )
    return sampled(problem, sampler)
