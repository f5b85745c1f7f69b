"""iCEM: CEM with coloured noise, fewer candidates each iteration, and elites that stay (Pinneri et al., 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from thick.planning.cem import CEM, ActionRange, Gaussian
from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm


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
        mean = torch.where(warm.valid[:, None, None], warm.sequence, wide.mean)
        return Gaussian(mean, wide.std * self.start_std)

    def count(self, iteration: int) -> int:
        return min(self.samples, max(self.minimum, int(self.samples * self.decay**-iteration)))

    def plan(self, parameters: Gaussian, elites: Tensor, scores: Tensor) -> Tensor:
        return elites[:, 0]

    def noise(self, batch: int, count: int, randomness: Randomness) -> Tensor:
        """Noise with power ``f^-colour`` over time and variance 1, ``[B, N, H, A]`` (Timmer and König, 1995)."""
        length, size = self.horizon, self.actions.low.shape[0]
        if self.colour == 0 or length == 1:
            return super().noise(batch, count, randomness)
        frequency = torch.fft.rfftfreq(length, device=self.actions.low.device)
        frequency[0] = 1.0 / length
        amplitude = frequency ** (-self.colour / 2)  # [F]
        parts = randomness.normal(count, size, 2, amplitude.shape[0]) * amplitude
        real, imaginary = parts.unbind(-2)
        # The constant term is real, and so is the highest one of an even length.
        real_only = torch.zeros_like(amplitude, dtype=torch.bool)
        real_only[0] = True
        real_only[-1] = length % 2 == 0
        imaginary = imaginary.masked_fill(real_only, 0.0)
        real = torch.where(real_only, real * 2**0.5, real)
        power = amplitude.square()
        # Each frequency between appears twice in the two-sided spectrum, with half its power each.
        weight = torch.where(real_only, 2.0 * power, 4.0 * power).sum() / length**2
        wave = torch.fft.irfft(torch.complex(real, imaginary), n=length, dim=-1) / weight.sqrt()
        return wave.transpose(-1, -2)
