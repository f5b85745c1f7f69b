"""GateL0RD: a recurrent cell that changes its state only through gates that are usually shut.

Source: Gumbsch, Butz, Martius, "Sparsely Changing Latent States for Prediction and Planning in Partially
Observable Domains", NeurIPS 2021; used as the context of the C-RSSM in the THICK paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thick.models.layers import Dense


def straight_through_ceil(gate: Tensor) -> Tensor:
    """ceil(gate) forward, identity backward: counts open gates with a gradient that can close them."""
    # In this order the forward value is exactly 0 or 1: the gate is subtracted from itself.
    return torch.ceil(gate).detach() + (gate - gate.detach())


class GateL0RD(nn.Module):
    """``g = ReLU(tanh(gate[x, c] + noise)); c' = g·tanh(candidate[x, c]) + (1 - g)·c``."""

    def __init__(self, inputs: int, context: int) -> None:
        super().__init__()
        self.gate = Dense(inputs + context, context)
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
    """The next context and the open gates from the pre-activations of gate and candidate, all ``[..., C]``."""
    gate = torch.relu(torch.tanh(gate if noise is None else gate + noise))
    return context + gate * (torch.tanh(candidate) - context), straight_through_ceil(gate)
