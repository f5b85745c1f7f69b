"""Predictors of what follows an action, whose disagreement shows what is not known yet (Plan2Explore)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from thick.models.functions import elu


class Ensemble(nn.Module):
    """One-step predictors of the next z from a feature and an action, all computed together.

    Each is an MLP with ELU layers and weights of its own; they differ by what they began with.

    Args:
        inputs: F + A, size of a feature and of an action.
        outputs: S·K, size of what is predicted.
        members: E, how many.
        units, layers: of each.
    """

    def __init__(self, inputs: int, outputs: int, *, members: int, units: int, layers: int) -> None:
        super().__init__()
        sizes = [inputs, *[units] * layers, outputs]
        pairs = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(members, *pair)) for pair in pairs)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(members, 1, after)) for _, after in pairs)
        for weight in self.weights:
            for member in weight:
                nn.init.xavier_uniform_(member)

    def forward(self, feature: Tensor, action: Tensor) -> Tensor:
        """Predictions ``[E, *B, S·K]`` in fp32 of features ``[*B, F]`` and actions ``[*B, A]``."""
        leading = feature.shape[:-1]
        x = torch.cat([feature, action], -1).flatten(0, -2).unsqueeze(0)
        x = x.expand(self.weights[0].shape[0], -1, -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = elu(torch.baddbmm(bias, x, weight))
        # Members that agree to three digits differ in the fourth, which bf16 does not have.
        with torch.autocast(x.device.type, enabled=False):
            x = torch.baddbmm(self.biases[-1], x.float(), self.weights[-1])
        return x.unflatten(1, leading)

    def disagreement(self, feature: Tensor, action: Tensor) -> Tensor:
        """Standard deviation over the members, averaged over the dimensions of z: ``[*B]`` (Plan2Explore)."""
        # From the variance, with a floor: where all agree, the gradient of a square root is infinite.
        variance = self(feature, action).var(0, correction=0)
        return variance.clamp_min(1e-12).sqrt().mean(-1)
