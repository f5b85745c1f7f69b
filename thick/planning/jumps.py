"""The high level as a model that a tree search can ask: an action is a jump to just after the next context change."""

from __future__ import annotations

import math
from typing import Any

from thick.arrays import Array, of
from thick.models.beliefs import Landing
from thick.planning.forests import Forester
from thick.planning.protocols import Expansion, HighModel, JumpState, Node, offers


class JumpModel:
    """Search model over high-level actions.

    The return head predicts R = Σ_{k=t}^{τ-1} γ^(k-t) r[k], which begins with the reward that was received on arriving
    in t. A search counts each reward once: an edge is worth what follows the arrival in t, up to and with the reward
    at τ, which the coarse reward head predicts,

        (R - r[t]) / γ + γ^(Δ-1) r[τ],   Δ = τ - t,   and the node after it counts γ^Δ · P(the episode goes on).

    A leaf is worth what the coarse critic says where there is one, else what one more jump earns, expected under the
    prior p(A | s): with the reward at τ, since a sparse reward is found nowhere else.

    Args:
        high: the high level.
        stoch: ``[B, S]`` classes of z now.
        context: ``[B, C]`` now.
        critic: whether to use the coarse critic where there is one.
    """

    def __init__(self, high: HighModel, stoch: Array, context: Array, *, critic: bool = True) -> None:
        self.high, self.stoch, self.context = high, stoch, context
        self.critic = critic and high.has_critic
        model: Any = high
        self._expand = model.expand if offers(high, Expansion) else None
        self.forester: Forester | None = model if offers(high, Forester) else None
        """who searches trees itself, where the high level can"""

    def root(self) -> JumpState:
        """The present state."""
        if self.forester is not None:
            reward = self.forester.arrival(self.stoch, self.context)
        else:
            reward, _ = self.high.outcome(self.stoch, self.context)
        return JumpState(self.stoch, self.context, reward, of(reward).zeros(*reward.shape))

    def evaluate(self, state: JumpState) -> Node:
        """Where each high-level action leads, all in one pass of the high level."""
        if self._expand is not None:
            return self._expand(state, critic=self.critic)
        high, xp = self.high, of(state.stoch)
        prior = xp.softmax(high.prior(state.stoch, state.context))  # [*B, G]
        shape = tuple(prior.shape)
        stoch, context = (
            xp.expand(x[..., None, :], *shape, x.shape[-1]) for x in (state.stoch, state.context)
        )
        landing = high.jump(stoch, context, xp.expand(xp.arange(shape[-1]), *shape))  # [*B, G, ...]
        reward = edge_reward(landing, state.reward[..., None], high.gamma)
        value = high.value(state.stoch, state.context) if self.critic else (prior * reward).sum(-1)
        return Node(
            prior,
            value,
            reward,
            fades(high.gamma, landing.elapsed) * landing.continuation,
            JumpState(landing.stoch, landing.context, landing.reward, landing.elapsed),
        )


def edge_reward(landing: Landing, reward: Array, gamma: float) -> Array:
    """What a jump earns after the arrival where it started, ``[*B]``; see :class:`JumpModel`."""
    return (landing.segment - reward) / gamma + fades(gamma, landing.elapsed - 1) * landing.reward


def fades(gamma: float, steps: Array) -> Array:
    """γ^steps. By exp, which on a CPU gives an element the same bits wherever in an array it lies; pow does not."""
    return of(steps).exp(steps * math.log(gamma))
