"""iCEM: CEM with coloured noise, fewer candidates each iteration, and elites that stay (Pinneri et al., 2020)."""

from __future__ import annotations

from thick.arrays import Array, of
from thick.planning.actions import ActionRange
from thick.planning.cem import CEM, Gaussian, common
from thick.planning.low import LowProblem, sampled
from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm
from thick.planning.searches import LowSearch


class ICEM(CEM):
    """CEM that starts from the shifted plan and executes its best candidate.

    Args:
        horizon, actions, samples, smoothing, minimum_std: as :class:`~thick.planning.cem.CEM`.
        kept: elites that join the next candidates.
        decay: factor by which candidates become fewer with each iteration.
        colour: exponent of the power spectrum of the noise over time.
        minimum: fewest candidates of an iteration (twice the elites in the paper).
    """

    start_std = 0.5

    def __init__(
        self,
        *,
        horizon: int,
        actions: ActionRange,
        samples: int,
        smoothing: float,
        minimum_std: float,
        kept: int,
        decay: float,
        colour: float,
        minimum: int,
    ) -> None:
        super().__init__(
            horizon=horizon, actions=actions, samples=samples, smoothing=smoothing, minimum_std=minimum_std
        )
        self.kept, self.decay, self.colour, self.minimum = kept, decay, colour, minimum

    def start(self, warm: Warm) -> Gaussian:
        """The previous plan, or the middle of the range, with half the spread of plain CEM."""
        wide = super().start(warm)
        mean = of(warm.sequence).where(warm.valid[:, None, None], warm.sequence, wide.mean)
        return Gaussian(mean, wide.std * self.start_std)

    def count(self, iteration: int) -> int:
        return min(self.samples, max(self.minimum, int(self.samples * self.decay**-iteration)))

    def plan(self, parameters: Gaussian, elites: Array, scores: Array) -> Array:
        return self.within(elites[:, 0])

    def noise(self, batch: int, count: int, randomness: Randomness) -> Array:
        """Noise with power ``f^-colour`` over time and variance 1, ``[B, N, H, A]`` (Timmer and König, 1995)."""
        length, size = self.horizon, self.actions.low.shape[0]
        if self.colour == 0 or length == 1:
            return super().noise(batch, count, randomness)
        xp = of(self.actions.low)
        frequencies = length // 2 + 1
        frequency = xp.clip(xp.as_float(xp.arange(frequencies)) * (1.0 / length), 1.0 / length)
        amplitude = xp.power(frequency, -self.colour / 2)  # [F]
        parts = randomness.normal(count, size, 2, frequencies) * amplitude
        real, imaginary = parts[..., 0, :], parts[..., 1, :]
        # The constant term is real, and so is the highest one of an even length.
        place = xp.arange(frequencies)
        real_only = (place == 0) | (2 * place == length)
        imaginary = xp.where(real_only, 0.0, imaginary)
        real = xp.where(real_only, real * 2**0.5, real)
        power = amplitude * amplitude
        # Each frequency between appears twice in the two-sided spectrum, with half its power each.
        weight = xp.where(real_only, 2.0 * power, 4.0 * power).sum() / length**2
        return xp.swap(xp.irfft(real, imaginary, length) / xp.sqrt(weight), -1, -2)


def low_search(problem: LowProblem) -> LowSearch:
    """iCEM for a problem."""
    settings = problem.settings
    sampler = ICEM(
        **common(problem),
        kept=settings.kept,
        decay=settings.sample_decay,
        colour=settings.noise_colour,
        minimum=min(settings.samples, 2 * settings.elite_count),
    )
    return sampled(problem, sampler)
