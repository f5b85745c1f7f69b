"""The actor: a policy on the fine feature of a belief (Dreamer)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.models.distributions import (
    one_hot_sample,
    truncated_normal_entropy,
    truncated_normal_log_prob,
    truncated_normal_sample,
)
from thick.models.layers import ScalarMLP


class Actor(nn.Module):
    """Policy on the fine feature: a categorical, or a normal truncated to the action range [-1, 1].

    Args:
        inputs: size of the feature.
        actions: size of an action.
        continuous: which of the two.
        units, layers, norm: of the MLP.
    """

    def __init__(
        self, inputs: int, actions: int, *, continuous: bool, units: int, layers: int, norm: str = "none"
    ) -> None:
        super().__init__()
        self.continuous = continuous
        self.mlp = ScalarMLP(inputs, units, layers, 2 * actions if continuous else actions, norm=norm)

    def forward(self, feature: Tensor) -> Tensor:
        """Parameters of the policy: logits ``[..., A]``, or mean and raw spread ``[..., 2A]``."""
        return self.mlp(feature)

    def distribution(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of a continuous policy, ``[..., A]`` each."""
        mean, spread = self.mlp(feature).float().chunk(2, -1)
        return torch.tanh(mean), 2 * torch.sigmoid(spread / 2) + 0.1

    def sample(self, feature: Tensor) -> Tensor:
        """An action ``[..., A]``, reparametrised (continuous) or with straight-through gradient (discrete)."""
        if self.continuous:
            return truncated_normal_sample(*self.distribution(feature))
        return one_hot_sample(self.mlp(feature))

    def log_prob_and_entropy(self, feature: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log probability of an action ``[..., A]`` and entropy of the policy, both ``[...]``."""
        if self.continuous:
            mean, std = self.distribution(feature)
            log_prob = truncated_normal_log_prob(action, mean, std).sum(-1)
            return log_prob, truncated_normal_entropy(mean, std).sum(-1)
        log_probs = self.mlp(feature).float().log_softmax(-1)
        return (action * log_probs).sum(-1), -(log_probs.exp() * log_probs).sum(-1)

    def mode(self, feature: Tensor) -> Tensor:
        """The most probable action, ``[..., A]``."""
        if self.continuous:
            return self.distribution(feature)[0]
        logits = self.mlp(feature)
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
