"""The frozen dynamics of a model in torch: one imagined step, and the heads on what it leads to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thick.models.beliefs import Belief
from thick.models.dynamics.crssm import CRSSM
from thick.models.networks import AgentNetworks
from thick.runtimes.torch.frozen import (
    Gather,
    Head,
    affine,
    by_session,
    draw,
    elu,
    gatel0rd,
    gates_and_candidates,
    goes_on,
    one_hots,
    present,
    sigmoid,
)
from thick.runtimes.torch.traced import Traced


class FrozenDynamics:
    """One imagined step of an RSSM or C-RSSM and the heads on what it leads to, in one type.

    Args:
        model: the trained model.
        dtype: of weights and activations.
    """

    def __init__(self, model: AgentNetworks, dtype: torch.dtype) -> None:
        world, behaviour, config = model.world, model.behaviour, model.config
        dynamics = world.dynamics
        self.dtype = dtype
        self.stoch, self.classes = config.stoch, config.classes
        self.deter, self.context = config.deter, dynamics.context
        self.gamma, self.unimix = config.discount, config.unimix
        sizes: dict[str, Any] = {"stoch": self.stoch, "classes": self.classes, "dtype": dtype}
        self.img_in = Gather(dynamics.img_in.weight, dynamics.img_in.bias, **sizes)
        self.gru = affine(dynamics.gru, dtype)
        self.img_out, self.img_logit = affine(dynamics.img_out, dtype), affine(dynamics.img_logit, dtype)
        self.change_threshold = config.change_threshold
        self.gatel0rd = (
            gates_and_candidates(dynamics.gatel0rd, dtype) if isinstance(dynamics, CRSSM) else None
        )
        self._outcome = [Head(mlp, **sizes) for mlp in present(world.heads.reward, world.heads.discount)]
        self._critic = None if behaviour is None else Head(behaviour.critic, **sizes)
        self._actor = None if behaviour is None else Head(behaviour.actor.mlp, **sizes)
        self.continuous = world.continuous
        self._imagined, self._outcome_of = Traced(self._imagine), Traced(self._outcomes)
        if self._critic is not None:
            self._value_of = Traced(self._critic)
        if self._actor is not None:
            self._acted = Traced(self._spread if self.continuous else self._actor)

    @property
    def draws(self) -> int:
        """Uniform numbers of one imagined step."""
        return self.stoch

    def initial(self, batch: int) -> Belief:
        """The belief before anything was seen: z is -1, which stands for the zero vector."""
        device = self.gru.weight.device
        zeros = torch.zeros
        return Belief.of(
            torch.full((batch, self.stoch), -1, dtype=torch.int64, device=device),
            zeros(batch, self.stoch, self.classes, device=device),
            zeros(batch, self.deter, device=device),
            zeros(batch, self.context, device=device),
            zeros(batch, self.context, device=device),
        )

    def imagine(self, belief: Belief, action: Tensor, uniforms: Tensor | None = None) -> Belief:
        """The belief after ``action`` ``[*B, A]``; z is drawn from the fine prior, or its mode without uniforms."""
        given = (belief.stoch, belief.deter, belief.context, action)
        return Belief.of(*by_session(self._imagined, *given, *(() if uniforms is None else (uniforms,))))

    def _imagine(
        self, stoch: Tensor, deter: Tensor, context: Tensor, action: Tensor, uniforms: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        deter, context, gates = self.transition(self.img_in(stoch, action), deter, context)
        logits = self.prior(deter, context)
        return draw(logits, uniforms, self.unimix), logits, deter, context, gates

    def prior(self, deter: Tensor, context: Tensor) -> Tensor:
        """Logits ``[*B, S, K]`` of the fine prior."""
        hidden = elu(self.img_out(torch.cat([deter, context], -1)))
        return self.img_logit(hidden).unflatten(-1, (self.stoch, self.classes))

    def transition(self, x: Tensor, deter: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h, c and gates after a step whose z and action, through ``img_in``, gave ``x`` ``[*B, hidden]``."""
        x = elu(x)
        deter, context = deter.to(self.dtype), context.to(self.dtype)
        gates = context
        if self.gatel0rd is not None:
            context, gates = gatel0rd(self.gatel0rd, x, context, self.change_threshold)
        reset, candidate, update = self.gru(torch.cat([x, context, deter], -1)).chunk(3, -1)
        proposal = (sigmoid(reset) * candidate).tanh_()
        return torch.lerp(deter, proposal, sigmoid(update - 1)), context, gates

    def features(self, belief: Belief) -> Tensor:
        """Fine feature ``[z, h, c]``, ``[*B, S·K + H + C]``, with z as one-hots (zero where it is -1)."""
        return torch.cat(
            [one_hots(belief.stoch, self.classes, belief.deter), belief.deter, belief.context], -1
        )

    def outcome(self, belief: Belief) -> tuple[Tensor, Tensor | None]:
        """Reward received on arriving in the belief, and the probability that the episode goes on; ``[*B]``."""
        reward, *continuation = by_session(self._outcome_of, belief.stoch, self._memory(belief))
        return reward, continuation[0] if continuation else None

    def _outcomes(self, stoch: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        (reward,), *discount = (head(stoch, memory) for head in self._outcome)
        return (reward.squeeze(-1), *(goes_on(logits, self.gamma) for (logits,) in discount))

    @property
    def has_actor(self) -> bool:
        """Whether the checkpoint has an actor and a critic."""
        return self._actor is not None

    def value(self, belief: Belief) -> Tensor:
        """The critic's value ``[*B]``: expected return from here on, without the reward of arriving."""
        assert self._critic is not None, "the checkpoint has no critic"
        return by_session(self._value_of, belief.stoch, self._memory(belief))[0].squeeze(-1)

    def policy(self, belief: Belief) -> tuple[Tensor, Tensor | None]:
        """The actor: logits ``[*B, A]`` and None, or mean and standard deviation ``[*B, A]``."""
        assert self._actor is not None, "the checkpoint has no actor"
        given = (belief.stoch, self._memory(belief))
        if not self.continuous:
            return by_session(self._acted, *given)[0], None
        mean, std = by_session(self._acted, *given)
        return mean, std

    def _spread(self, stoch: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        assert self._actor is not None
        mean, spread = self._actor(stoch, memory)[0].chunk(2, -1)
        return torch.tanh(mean), 2 * sigmoid(spread / 2) + 0.1

    def _memory(self, belief: Belief) -> Tensor:
        return torch.cat([belief.deter, belief.context], -1)
