"""The high level of a trained model, frozen: jumps, and what is received with them, in fp32."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from thick.models.beliefs import Landing
from thick.models.dynamics.crssm import CRSSM
from thick.models.hierarchy.level import HighLevel
from thick.models.networks import AgentNetworks
from thick.runtimes.torch.frozen import (
    Chain,
    Gather,
    Head,
    affine,
    by_session,
    dense,
    draw,
    elu,
    gatel0rd,
    gates_and_candidates,
    goes_on,
    present,
)

_SMALL = 512
"""width up to which a few rows more of a product cost nothing"""


class FrozenHighLevel:
    """The high level, the coarse path and the coarse heads, in fp32.

    Args:
        model: a trained model with levels.
        index: which of them.
    """

    def __init__(self, model: AgentNetworks, index: int = 0) -> None:
        high, dynamics, heads = model.levels[index], model.world.dynamics, model.world.coarse_heads
        assert isinstance(high, HighLevel) and isinstance(dynamics, CRSSM) and heads is not None
        dtype, config = torch.float32, model.config
        sizes: dict[str, Any] = {"stoch": config.stoch, "classes": config.classes, "dtype": dtype}
        self.stoch, self.classes, self.context = config.stoch, config.classes, dynamics.context
        self.actions, self.continuous = high.actions, high.continuous
        self.gamma, self.max_time = config.discount, config.levels[index].max_time
        self.unimix = config.unimix
        # Small networks cost a call, not a row: sessions share one, also where each asks for all its jumps at once.
        self.by_row = config.levels[index].hidden <= _SMALL
        self.prior_hidden = Gather(high.prior_hidden.weight, high.prior_hidden.bias, **sizes)
        self.prior_logit = affine(high.prior_logit, dtype)
        body = [dense(high, f"body{index}") for index in range(high.body_layers)]
        self.body0 = Gather(body[0].weight, body[0].bias, **sizes)
        self.body = [affine(layer, dtype) for layer in body[1:]]
        self.stoch_hidden, self.stoch_logit = (
            affine(high.stoch_hidden, dtype),
            affine(high.stoch_logit, dtype),
        )
        self.action_chain, self.action_out = (
            Chain(high.action_head.mlp, dtype),
            affine(high.action_head.out, dtype),
        )
        self.time_chain, self.time_out = Chain(high.time_head.mlp, dtype), affine(high.time_head.out, dtype)
        self.reward_chain, self.reward_out = (
            Chain(high.reward_head.mlp, dtype),
            affine(high.reward_head.out, dtype),
        )
        self.img_in = Gather(dynamics.img_in.weight, dynamics.img_in.bias, **sizes)
        self.change_threshold = dynamics.change_threshold
        self.gatel0rd = gates_and_candidates(dynamics.gatel0rd, dtype)
        summary = dense(dynamics.ctxt_head, "dense0")
        self.ctxt_first = Gather(summary.weight, summary.bias, **sizes)
        self.ctxt_rest = Chain(dynamics.ctxt_head, dtype, skip=1)
        self.ctxt_img_out = Gather(dynamics.ctxt_img_out.weight, dynamics.ctxt_img_out.bias, **sizes)
        self.ctxt_img_logit = affine(dynamics.ctxt_img_logit, dtype)
        self._outcome = [Head(mlp, **sizes) for mlp in present(heads.reward, heads.discount)]
        critic = None if model.behaviour is None else model.behaviour.coarse_critic
        self._critic = None if critic is None else Head(critic, **sizes)

    def prior(self, stoch: Tensor, context: Tensor) -> Tensor:
        """Logits of p(A | s), ``[*B, G]``."""
        return by_session(self._prior, stoch, context)[0]

    def _prior(self, stoch: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        return (self.prior_logit(elu(self.prior_hidden(stoch, context))),)

    def segment_return(self, stoch: Tensor, context: Tensor, high_action: Tensor) -> Tensor:
        """R of a high-level action ``[*B]``, without the rest of the jump."""
        return by_session(self._segment, stoch, context, self._one_hot(high_action))[0].squeeze(-1)

    def _segment(self, stoch: Tensor, context: Tensor, high_action: Tensor) -> tuple[Tensor, ...]:
        return (self.reward_out(self.reward_chain(self._body(stoch, context, high_action))),)

    def jump(
        self, stoch: Tensor, context: Tensor, high_action: Tensor, uniforms: Tensor | None = None
    ) -> Landing:
        """From now to just after the next change (maths: one jump of the high level).

        Args:
            stoch: ``[*B, S]``.
            context: ``[*B, C]``.
            high_action: ``[*B]`` int64.
            uniforms: ``[*B, 2·S]`` to sample both states; None takes their modes.
        """
        given = (stoch, context, self._one_hot(high_action))
        uniform = () if uniforms is None else (uniforms,)
        return Landing(*by_session(self._jump, *given, *uniform, by_row=self.by_row))

    def _jump(
        self, stoch: Tensor, context: Tensor, high_action: Tensor, uniforms: Tensor | None = None
    ) -> Landing:
        x = self._body(stoch, context, high_action)
        shape = (self.stoch, self.classes)
        logits = self.stoch_logit(elu(self.stoch_hidden(x))).unflatten(-1, shape)
        before = draw(logits, None if uniforms is None else uniforms[..., : self.stoch])
        action = self.action_out(self.action_chain(x))
        if self.continuous:
            action = torch.tanh(action)
        else:
            action = F.one_hot(action.argmax(-1), action.shape[-1]).to(action.dtype)
        time = torch.relu(self.time_out(self.time_chain(x)).squeeze(-1)).clamp(0, self.max_time)
        segment = self.reward_out(self.reward_chain(x)).squeeze(-1)
        hidden = elu(self.img_in(before, action))
        next_context, gates = gatel0rd(self.gatel0rd, hidden, context, self.change_threshold)
        summary = self.ctxt_rest(elu(self.ctxt_first(before, torch.cat([action, next_context], -1))))
        coarse = self.ctxt_img_logit(elu(self.ctxt_img_out(before, summary))).unflatten(-1, shape)
        landed = draw(coarse, None if uniforms is None else uniforms[..., self.stoch :], self.unimix)
        reward, continuation = self._outcomes(landed, next_context)
        return Landing(
            logits, before, action, landed, next_context, gates, time + 1, segment, reward, continuation
        )

    def outcome(self, stoch: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Reward and probability that the episode goes on, from the coarse heads; ``[*B]`` (1 without such a head)."""
        reward, continuation = by_session(self._outcomes, stoch, context)
        return reward, continuation

    def _outcomes(self, stoch: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        (reward,), *discount = (head(stoch, context) for head in self._outcome)
        reward = reward.squeeze(-1)
        return reward, goes_on(discount[0][0], self.gamma) if discount else torch.ones_like(reward)

    @property
    def has_critic(self) -> bool:
        """Whether the checkpoint has a coarse critic."""
        return self._critic is not None

    def value(self, stoch: Tensor, context: Tensor) -> Tensor:
        """The coarse critic's value, ``[*B]``."""
        assert self._critic is not None, "the checkpoint has no coarse critic"
        return by_session(self._critic, stoch, context)[0].squeeze(-1)

    def _one_hot(self, high_action: Tensor) -> Tensor:
        return F.one_hot(high_action, self.actions).float()

    def _body(self, stoch: Tensor, context: Tensor, high_action: Tensor) -> Tensor:
        x = elu(self.body0(stoch, torch.cat([context, high_action], -1)))
        for layer in self.body:
            x = elu(layer(x))
        return x
