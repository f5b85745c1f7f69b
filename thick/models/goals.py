"""Networks of Director: a code for goals, a manager that chooses codes and a worker that goes there.

A goal is a deterministic feature [h, c] of the world model, size D: where to be, whatever is seen there (z).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from thick.models.actor import Actor
from thick.models.beliefs import State
from thick.models.config import ModelConfig
from thick.models.distributions import categorical_kl, log_softmax, one_hot_sample
from thick.models.layers import MLP, ScalarHead, ScalarMLP
from thick.models.world_model import WorldModel, action_size


def deterministic(states: State) -> Tensor:
    """What goals are of: ``[*B, D]``."""
    return torch.cat([states.deter, states.context], -1)


class GoalAutoencoder(nn.Module):
    """A code of G categoricals with K classes for deterministic features (Director, equation 3).

    Args:
        size: D.
        codes, classes: G and K.
        units, layers, norm: of encoder and decoder.
    """

    def __init__(self, size: int, *, codes: int, classes: int, units: int, layers: int, norm: str) -> None:
        super().__init__()
        self.shape = (codes, classes)
        self.encoder = MLP(size, units, layers, codes * classes, norm=norm)
        self.decoder = MLP(codes * classes, units, layers, size, norm=norm)

    def encode(self, feature: Tensor) -> Tensor:
        """Logits ``[*B, G, K]`` of the code of features ``[*B, D]``."""
        return self.encoder(feature).float().unflatten(-1, self.shape)

    def decode(self, code: Tensor) -> Tensor:
        """Features ``[*B, D]`` in fp32 of one-hot codes ``[*B, G, K]``."""
        return self.decoder(code.flatten(-2)).float()

    def losses(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of a sampled code, and KL of the code to the uniform one; ``[*B]`` each, sums.

        Args:
            feature: ``[*B, D]``, without gradient.
        """
        logits = self.encode(feature)
        error = (self.decode(one_hot_sample(logits)) - feature.float()).square().sum(-1)
        return error, categorical_kl(logits, torch.zeros_like(logits)).sum(-1)

    @torch.no_grad()
    def novelty(self, feature: Tensor) -> Tensor:
        """Mean squared error of a sampled code of features ``[*B, D]``: large where few goals were seen. ``[*B]``"""
        code = one_hot_sample(self.encode(feature))
        return (self.decode(code) - feature.float()).square().mean(-1)


class DirectorNetworks(nn.Module):
    """All that Director adds to a world model.

    Args:
        world: whose states they read; it is not kept.
        config: sizes.
    """

    def __init__(self, world: WorldModel, config: ModelConfig) -> None:
        super().__init__()
        sizes = config.head
        shape = (config.goals.codes, config.goals.classes)
        goal = config.deter + world.dynamics.context
        self.autoencoder = GoalAutoencoder(goal, codes=shape[0], classes=shape[1], **sizes)
        self.manager = ScalarMLP(world.fine_size, outputs=math.prod(shape), **sizes)
        self.worker = Actor(
            world.fine_size + goal, action_size(world.action_space), continuous=world.continuous, **sizes
        )
        self.manager_critic = ScalarHead(world.fine_size, form=config.scalars, **sizes)
        self.exploration_critic = ScalarHead(world.fine_size, form=config.scalars, **sizes)
        self.worker_critic = ScalarHead(world.fine_size + goal, form=config.scalars, **sizes)

    def codes(self, feature: Tensor) -> Tensor:
        """Logits ``[*B, G, K]`` of the manager's choice in fine features ``[*B, F]``."""
        return self.manager(feature).float().unflatten(-1, self.autoencoder.shape)

    def log_prob_and_entropy(self, feature: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Log probability of a code ``[*B, G, K]`` and entropy of the manager, sums over the groups, ``[*B]``."""
        log_probs = log_softmax(self.codes(feature))
        return (code * log_probs).sum((-1, -2)), -(log_probs.exp() * log_probs).sum((-1, -2))
