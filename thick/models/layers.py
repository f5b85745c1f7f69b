"""Dense layers: as the paper uses them (Glorot-uniform weights, zero biases, ELU), or normalised (RMSNorm and SiLU)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.models.bins import BINS
from thick.models.classes import Joined, dense
from thick.models.config import NORM_EPS
from thick.models.distributions import normal_log_prob
from thick.models.functions import elu
from thick.models.twohot import twohot_log_prob, twohot_mean


class Dense(nn.Linear):
    """``y = W x + b`` with Glorot-uniform weights and zero biases."""

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor | Joined) -> Tensor:
        return x.through(self.weight, self.bias) if isinstance(x, Joined) else super().forward(x)


class RMSNorm(nn.Module):
    """``x · weight / √(mean(x²) + NORM_EPS)`` over the last dimension (Zhang and Sennrich, 2019), always in fp32.

    Args:
        size: of the last dimension.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.rms_norm(x.float(), self.weight.shape, self.weight, NORM_EPS)


class MLP(nn.Module):
    """Layers ``dense0 … dense{layers-1}`` and, where ``outputs`` is given, a linear ``out``.

    Args:
        inputs: size of the last dimension of the input.
        units: size of every hidden layer.
        layers: number of hidden layers.
        outputs: size of the linear output; None returns the last hidden layer.
        norm: what follows each hidden layer: ``"none"`` ELU (paper), ``"rms"`` RMSNorm ``norm0 …`` and SiLU.
    """

    def __init__(
        self, inputs: int, units: int, layers: int, outputs: int | None = None, *, norm: str = "none"
    ) -> None:
        super().__init__()
        self.layers, self.norm = layers, norm
        size = inputs
        for index in range(layers):
            self.add_module(f"dense{index}", Dense(size, units))
            if norm == "rms":
                self.add_module(f"norm{index}", RMSNorm(units))
            size = units
        self.out = None if outputs is None else Dense(size, outputs)

    def hidden(self, x: Tensor | Joined) -> Tensor:
        """The last hidden layer, ``[..., units]``."""
        for index in range(self.layers):
            y: Tensor = self.get_submodule(f"dense{index}")(x)
            x = F.silu(self.get_submodule(f"norm{index}")(y)) if self.norm == "rms" else elu(y)
        return dense(x)

    def forward(self, x: Tensor | Joined) -> Tensor:
        x = self.hidden(x)
        return x if self.out is None else self.out(x)


class ScalarMLP(MLP):
    """An :class:`MLP` to few numbers, such as a reward or a value, whose last layer stays in fp32 under autocast:
    in bf16 a return of 100 would be known to the nearest half."""

    def forward(self, x: Tensor | Joined) -> Tensor:
        assert self.out is not None
        return exact(self.out, self.hidden(x))


class ScalarHead(ScalarMLP):
    """One number of a feature: a reward or a value.

    Args:
        inputs, units, layers, norm: of the :class:`MLP`.
        form: what is predicted: ``"normal"`` the mean of a normal of unit variance (paper), or ``"twohot"`` a
            distribution over :data:`~thick.models.bins.BINS` bins, exponentially far apart, of which the two next to
            a number share it (DreamerV3). Its mean is then 0 before training.
    """

    def __init__(
        self, inputs: int, units: int, layers: int, *, form: str = "normal", norm: str = "none"
    ) -> None:
        super().__init__(inputs, units, layers, BINS if form == "twohot" else 1, norm=norm)
        self.twohot = form == "twohot"
        if self.twohot:
            assert self.out is not None
            nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor | Joined) -> Tensor:
        """The mean, ``[..., 1]`` in fp32."""
        output = super().forward(x)
        return twohot_mean(output) if self.twohot else output

    def log_prob(self, x: Tensor | Joined, target: Tensor) -> Tensor:
        """Log-likelihood of numbers ``[...]``, in fp32."""
        output = super().forward(x)
        if self.twohot:
            return twohot_log_prob(output, target)
        return normal_log_prob(target, output.squeeze(-1).float())


def exact(layer: nn.Linear, x: Tensor) -> Tensor:
    """A layer in fp32, also under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.float(), layer.weight, layer.bias)
