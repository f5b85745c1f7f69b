"""The high level as a model that a tree search can ask: an action is a jump to just after the next context change."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from thick.models.inference import Landing
from thick.planning.protocols import Edge, HighModel, Node


class JumpState(NamedTuple):
    """A state of the search; leading dimensions ``[*B]``."""

    stoch: Tensor
    """[*B, S] classes of z"""
    context: Tensor
    """[*B, C]"""
    reward: Tensor
    """[*B] reward received on arriving here"""
    landing: Landing
    """the jump that led here (of the root: zeros)"""


class JumpModel:
    """Search model over high-level actions.

    The return head predicts R = Σ_{k=t}^{τ-1} γ^(k-t) r[k], which begins with the reward that was received on arriving
    in t. A search counts each reward once: an edge is worth what follows the arrival in t, up to and with the reward
    at τ, which the coarse reward head predicts,

        (R - r[t]) / γ + γ^(Δ-1) r[τ],   Δ = τ - t,   and the node after it counts γ^Δ · P(the episode goes on).

    A leaf is worth what the coarse critic says where there is one, else the return of one more jump, expected under the
    prior p(A | s).

    Args:
        high: the high level.
        stoch: ``[B, S]`` classes of z now.
        context: ``[B, C]`` now.
        critic: whether to use the coarse critic where there is one.
    """

    def __init__(self, high: HighModel, stoch: Tensor, context: Tensor, *, critic: bool = True) -> None:
        self.high, self.stoch, self.context = high, stoch, context
        self.critic = critic and high.has_critic

    def root(self) -> Node:
        """The present state."""
        reward, _ = self.high.outcome(self.stoch, self.context)
        none = torch.zeros(self.stoch.shape[0], dtype=torch.int64, device=self.stoch.device)
        # A jump gives the shapes of what the root does not have.
        landing = Landing(
            *(torch.zeros_like(part) for part in self.high.jump(self.stoch, self.context, none))
        )
        return self._node(JumpState(self.stoch, self.context, reward, landing))

    def expand(self, state: JumpState, action: Tensor) -> Edge:
        """Where high-level actions ``[*B]`` lead."""
        high = self.high
        landing = high.jump(state.stoch, state.context, action)
        reward = edge_reward(landing, state.reward, high.gamma)
        discount = fades(high.gamma, landing.elapsed) * landing.continuation
        node = self._node(JumpState(landing.stoch, landing.context, landing.reward, landing))
        return Edge(node, reward, discount)

    def _node(self, state: JumpState) -> Node:
        logits = self.high.prior(state.stoch, state.context)
        return Node(state, logits, self._value(state, logits))

    def _value(self, state: JumpState, logits: Tensor) -> Tensor:
        high = self.high
        if self.critic:
            return high.value(state.stoch, state.context)
        count = high.actions
        rows = logits.dim() - 1  # the dimension of the actions
        stoch = state.stoch.unsqueeze(rows).expand(*logits.shape, -1)
        context = state.context.unsqueeze(rows).expand(*logits.shape, -1)
        actions = torch.arange(count, device=logits.device).expand(logits.shape)
        returns = high.segment_return(stoch, context, actions)  # [*B, G]
        following = (returns - state.reward.unsqueeze(-1)) / high.gamma
        return (logits.softmax(-1) * following).sum(-1)


def edge_reward(landing: Landing, reward: Tensor, gamma: float) -> Tensor:
    """What a jump earns after the arrival where it started, ``[*B]``; see :class:`JumpModel`."""
    return (landing.segment - reward) / gamma + fades(gamma, landing.elapsed - 1) * landing.reward


def fades(gamma: float, steps: Tensor) -> Tensor:
    """γ^steps. By exp, which on a CPU gives an element the same bits wherever in a tensor it lies; pow does not."""
    return torch.exp(steps * math.log(gamma))
