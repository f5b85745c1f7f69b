"""Dense layers as the paper uses them: Glorot-uniform weights, zero biases, ELU, no normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.models.classes import Joined, dense
from thick.models.functions import elu


class Dense(nn.Linear):
    """``y = W x + b`` with Glorot-uniform weights and zero biases."""

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor | Joined) -> Tensor:
        return x.through(self.weight, self.bias) if isinstance(x, Joined) else super().forward(x)


class MLP(nn.Module):
    """ELU layers ``dense0 … dense{layers-1}`` and, where ``outputs`` is given, a linear ``out``.

    Args:
        inputs: size of the last dimension of the input.
        units: size of every hidden layer.
        layers: number of hidden layers.
        outputs: size of the linear output; None returns the last hidden layer.
    """

    def __init__(self, inputs: int, units: int, layers: int, outputs: int | None = None) -> None:
        super().__init__()
        self.layers = layers
        size = inputs
        for index in range(layers):
            self.add_module(f"dense{index}", Dense(size, units))
            size = units
        self.out = None if outputs is None else Dense(size, outputs)

    def hidden(self, x: Tensor | Joined) -> Tensor:
        """The last hidden layer, ``[..., units]``."""
        for index in range(self.layers):
            x = elu(self.get_submodule(f"dense{index}")(x))
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


def exact(layer: nn.Linear, x: Tensor) -> Tensor:
    """A layer in fp32, also under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.float(), layer.weight, layer.bias)
