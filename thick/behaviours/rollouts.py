"""Rollouts of a policy in a world model, with gradient through the dynamics where it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thick.models.beliefs import State
from thick.models.classes import Classes, Joined
from thick.models.world_model import WorldModel


class Rollout(NamedTuple):
    """States and actions of N rollouts over H steps."""

    states: State
    """[H+1, N, ...], the first are the starts"""
    actions: Tensor
    """[H, N, A], ``actions[t]`` leads from ``states[t]`` to ``states[t+1]``"""
    features: Tensor
    """[H+1, N, F] fine features of the states"""

    def of(self, which: Tensor | slice) -> Rollout:
        """Some of the N rollouts, without gradient."""
        states = State(*(part.detach()[:, which] for part in self.states))
        return Rollout(states, self.actions.detach()[:, which], self.features.detach()[:, which])


def rollout(world: WorldModel, policy: Callable[[Tensor], Tensor], start: State, horizon: int) -> Rollout:
    """Follow a policy in imagination; states are sampled from the fine prior.

    Where no gradient is asked for, states have z by its classes, and features are what stands for them.

    Args:
        world: where.
        policy: a sampled action ``[N, A]`` of fine features ``[N, F]``; they carry no gradient, which reaches the
            actor through the dynamics and not through what it looked at (DreamerV2).
        start: ``[N, ...]``.
        horizon: H.
    """
    if not torch.is_grad_enabled():
        start = start._replace(stoch=Classes.of(start.stoch))
    state, states, actions = start, [start], []
    for _ in range(horizon):
        action = policy(world.dynamics.features(state).detach())
        state = world.dynamics.imagine_step(state, action)
        states.append(state)
        actions.append(action)
    imagined = State(*(_stacked(parts) for parts in zip(*states, strict=True)))
    return Rollout(imagined, torch.stack(actions), world.dynamics.features(imagined))


def _stacked(parts: Any) -> Any:
    return Classes.stack(parts) if isinstance(parts[0], Classes) else torch.stack(parts)


def discounts(world: WorldModel, features: Tensor) -> Tensor:
    """γ times the probability that the episode goes on, from fine features ``[..., F]``; ``[...]`` in fp32."""
    return head_discount(world.heads.discount, features, world.config.discount)


def head_discount(head: Callable[[Tensor], Tensor] | None, features: Tensor, gamma: float) -> Tensor:
    """The same by any discount head, ``[...]``; γ where there is none."""
    if head is None:
        rest = features.rest if isinstance(features, Joined) else features
        return torch.full_like(rest[..., 0], gamma, dtype=torch.float32)
    return torch.sigmoid(head(features).squeeze(-1).float())


def survival(discount: Tensor) -> Tensor:
    """Weight of each imagined step in a loss: states after a predicted end do not count.

    Args:
        discount: ``[H+1, N]`` of the states.

    Returns:
        ``[H, N]``, 1 at the start, without gradient.
    """
    return torch.cat([torch.ones_like(discount[:1]), discount[1:-1]]).cumprod(0).detach()
