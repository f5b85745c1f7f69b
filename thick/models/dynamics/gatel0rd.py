"""GateL0RD: a recurrent cell that changes its state only through gates that are usually shut.

Source: Gumbsch, Butz, Martius, "Sparsely Changing Latent States for Prediction and Planning in Partially
Observable Domains", NeurIPS 2021; used as the context of the C-RSSM in the THICK paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thick.models.config import STEEP_GATE
from thick.models.layers import Dense


def straight_through_ceil(gate: Tensor) -> Tensor:
    """ceil(gate) forward, identity backward: counts open gates with a gradient that can close them."""
    # In this order the forward value is exactly 0 or 1: the gate is subtracted from itself.
    return torch.ceil(gate).detach() + (gate - gate.detach())


class GateL0RD(nn.Module):
    """``g = ReLU(tanh(gate[x, c] + noise)); c' = g·tanh(candidate[x, c]) + (1 - g)·c``.

    Args:
        inputs: size of x.
        context: C.
        shared: one hard gate for the whole context in place of one soft gate for each dimension; see
            :func:`hard_gate`.
    """

    def __init__(self, inputs: int, context: int, *, shared: bool = False) -> None:
        super().__init__()
        self.shared = shared
        self.gate = Dense(inputs + context, 1 if shared else context)
        self.candidate = Dense(inputs + context, context)

    def forward(self, x: Tensor, context: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            x: input ``[..., hidden]``.
            context: ``[..., C]``.
            noise: added to the gates' pre-activation, ``[..., C]``; N(0, 0.1²) in training, None otherwise.

        Returns:
            The next context and the gates (1 where a gate opened), both ``[..., C]``.
        """
        joint = torch.cat([x, context], -1)
        return update_context(self.gate(joint), self.candidate(joint), context, noise)

    @property
    def sizes(self) -> tuple[int, int]:
        """Outputs of gate and candidate, ``(1 or C, C)``."""
        return self.gate.out_features, self.candidate.out_features


def count_changes(gates: Tensor, before: Tensor, after: Tensor, threshold: float) -> Tensor:
    """Open gates ``[..., C]`` that really change something.

    A gate that opens to write what is there already (a key reached for where none lies) changes nothing.

    Args:
        gates: positive where open.
        before, after: the context around the step.
        threshold: smallest movement that counts; 0 counts every open gate, as the paper does.
    """
    if threshold <= 0:
        return gates
    return gates * ((after - before).abs() >= threshold).to(gates.dtype)


def update_context(
    gate: Tensor, candidate: Tensor, context: Tensor, noise: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The next context and the open gates ``[..., C]``.

    Args:
        gate: pre-activations ``[..., C]``, or ``[..., 1]`` of a shared, hard gate.
        candidate, context: ``[..., C]``.
        noise: ``[..., C]``; a shared gate takes the first.
    """
    if gate.shape[-1] != context.shape[-1]:
        gate = hard_gate(gate if noise is None else gate + noise[..., :1])
        return context + gate * (torch.tanh(candidate) - context), gate.expand_as(context)
    gate = torch.relu(torch.tanh(gate if noise is None else gate + noise))
    return context + gate * (torch.tanh(candidate) - context), straight_through_ceil(gate)


def hard_gate(gate: Tensor) -> Tensor:
    """1 where the pre-activation is positive, else 0, with the gradient of a sigmoid: a shut gate, too, learns what it
    would be worth to open."""
    soft = torch.sigmoid(gate)
    return (gate > 0).to(gate.dtype) + (soft - soft.detach())


def frozen_gate(weight: Tensor, bias: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Weights ``[C, I]`` and biases ``[C]`` of soft gates that do what the trained gate does.

    A shared, hard gate is a soft one so steep that it is open or shut; scaled by a power of two, its sign is the same
    to the last bit.
    """
    if weight.shape[0] == context:
        return weight, bias
    return (STEEP_GATE * weight).expand(context, -1), (STEEP_GATE * bias).expand(context)
