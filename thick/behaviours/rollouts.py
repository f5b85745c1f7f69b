"""Rollouts of a policy in a world model, with gradient through the dynamics where it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from thick.models.beliefs import State
from thick.models.world_model import WorldModel


class Rollout(NamedTuple):
    """States and actions of N rollouts over H steps."""

    states: State
    """[H+1, N, ...], the first are the starts"""
    actions: Tensor
    """[H, N, A], ``actions[t]`` leads from ``states[t]`` to ``states[t+1]``"""
    features: Tensor
    """[H+1, N, F] fine features of the states"""


def rollout(world: WorldModel, policy: Callable[[Tensor], Tensor], start: State, horizon: int) -> Rollout:
    """Follow a policy in imagination; states are sampled from the fine prior.

    Args:
        world: where.
        policy: a sampled action ``[N, A]`` of fine features ``[N, F]``; they carry no gradient, which reaches the
            actor through the dynamics and not through what it looked at (DreamerV2).
        start: ``[N, ...]``.
        horizon: H.
    """
    state, states, actions = start, [start], []
    for _ in range(horizon):
        action = policy(world.dynamics.features(state).detach())
        state = world.dynamics.imagine_step(state, action)
        states.append(state)
        actions.append(action)
    imagined = State(*(torch.stack(parts) for parts in zip(*states, strict=True)))
    return Rollout(imagined, torch.stack(actions), world.dynamics.features(imagined))


def discounts(world: WorldModel, features: Tensor) -> Tensor:
    """γ times the probability that the episode goes on, from fine features ``[..., F]``; ``[...]`` in fp32."""
    return head_discount(world.heads.discount, features, world.config.discount)


def head_discount(head: Callable[[Tensor], Tensor] | None, features: Tensor, gamma: float) -> Tensor:
    """The same by any discount head, ``[...]``; γ where there is none."""
    if head is None:
        return torch.full_like(features[..., 0], gamma, dtype=torch.float32)
    return torch.sigmoid(head(features).squeeze(-1).float())


def survival(discount: Tensor) -> Tensor:
    """Weight of each imagined step in a loss: states after a predicted end do not count.

    Args:
        discount: ``[H+1, N]`` of the states.

    Returns:
        ``[H, N]``, 1 at the start, without gradient.
    """
    return torch.cat([torch.ones_like(discount[:1]), discount[1:-1]]).cumprod(0).detach()
