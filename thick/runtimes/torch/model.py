"""A trained world model, frozen for planning and serving: index-valued z, no gradients, no coarse path on the way.

Beliefs are kept in fp32 and filtered in fp32, so that gates open exactly when they did in training. Candidates of a
search are imagined in bf16 where the device is faster in it. Must agree with the trained modules; tests hold this.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from thick.arrays.torch_arrays import on
from thick.models.beliefs import Belief
from thick.models.networks import AgentNetworks
from thick.runtimes.torch.dynamics import FrozenDynamics
from thick.runtimes.torch.encoder import FrozenEncoder
from thick.runtimes.torch.frozen import affine, best_precision, by_session, draw, elu, one_hots
from thick.runtimes.torch.goals import FrozenManager
from thick.runtimes.torch.gpu import parts as gpu
from thick.runtimes.torch.high import FrozenHighLevel
from thick.runtimes.torch.refresh import take_weights, tensors_of
from thick.runtimes.torch.traced import Traced


class FrozenModel:
    """Everything an agent needs of a trained model.

    Args:
        model: the trained model.
        precision: of the candidates of a search: auto (bf16 where that is faster), fp32 or bf16.
        device: where to run.
        own: take a copy of the weights, so that training may go on; without, who made it uses it at once
            (:meth:`take`) and no longer.
    """

    def __init__(
        self,
        model: AgentNetworks,
        *,
        precision: str = "auto",
        device: torch.device | str = "cpu",
        own: bool = True,
    ) -> None:
        device = torch.device(device)
        types = {"auto": best_precision(device), "fp32": torch.float32, "bf16": torch.bfloat16}
        if precision not in types:
            raise ValueError(f"precision: expected auto, fp32 or bf16, got {precision!r}")
        if own:
            model = copy.deepcopy(model).requires_grad_(False).eval().to(device)
        self.device = device
        self.arrays = on(device)
        on_gpu = device.type == "cuda"
        dynamics_of = gpu.dynamics if on_gpu else FrozenDynamics
        level_of = gpu.HighLevel if on_gpu else FrozenHighLevel
        self.exact = dynamics_of(model, torch.float32)
        self.search = (
            self.exact if types[precision] == torch.float32 else dynamics_of(model, types[precision])
        )
        self.manager = None if model.director is None else FrozenManager(model)
        self.levels: list[FrozenHighLevel] = [level_of(model, index) for index in range(len(model.levels))]
        world = model.world
        self._encoder, self._decoder = FrozenEncoder(world.encoder, device), world.heads.decoder
        self._coarse_decoder = None if world.coarse_heads is None else world.coarse_heads.decoder
        dynamics = world.dynamics
        self._obs_out = affine(dynamics.obs_out, torch.float32)
        self._obs_logit = affine(dynamics.obs_logit, torch.float32)
        self._from_observation = dynamics.posterior_from_observation
        self._observed = Traced(self._observe)

    def take(self, other: FrozenModel) -> None:
        """Take the weights of another frozen model of the same configuration, in place: traces stay good."""
        take_weights(self, tensors_of(other))

    @property
    def high(self) -> FrozenHighLevel | None:
        """The lowest level above the dynamics, where there is one."""
        return self.levels[0] if self.levels else None

    # -- the dynamics' protocol, in fp32 -------------------------------------------------------------------------

    @property
    def draws(self) -> int:
        """Uniform numbers of one imagined step."""
        return self.exact.stoch

    def initial(self, batch: int) -> Belief:
        """The belief before anything was seen."""
        return self.exact.initial(batch)

    def begin(self, nothing: Tensor, uniforms: Tensor | None = None) -> Belief:
        """The belief at the first step of an episode, before its observation: z from the prior, or its mode."""
        start = self.initial(len(nothing))
        given = (
            start.stoch.clamp_min(0),
            start.deter,
            start.context,
            nothing,
            nothing.new_zeros(len(nothing), 1),
        )
        logits, deter, context, gates = by_session(self._started, *given)
        return Belief.of(draw(logits, uniforms, self.exact.unimix), logits, deter, context, gates)

    def _started(
        self, stoch: Tensor, deter: Tensor, context: Tensor, action: Tensor, seen: Tensor
    ) -> tuple[Tensor, ...]:
        moved = self.exact.transition(self.exact.img_in(stoch, action, seen), deter, context)
        return self.exact.prior(*moved[:2]), *moved

    def observe(
        self,
        belief: Belief,
        action: Tensor,
        embedding: Tensor,
        is_first: Tensor,
        uniforms: Tensor | None = None,
    ) -> Belief:
        """The belief after ``action`` ``[B, A]`` led to an observation with ``embedding`` ``[B, E]``.

        Args:
            is_first: ``[B]`` bool; belief and action are zeroed there.
            uniforms: ``[B, S]`` to sample z; None takes the mode of the posterior.
        """
        keep = (~is_first).to(action.dtype)
        column = keep.unsqueeze(-1)
        seen = keep * (belief.stoch[..., 0] >= 0)
        stoch, deter, context = belief.stoch.clamp_min(0), belief.deter * column, belief.context * column
        given = (stoch, deter, context, action * column, seen.unsqueeze(-1), embedding)
        logits, deter, context, gates = by_session(self._observed, *given)
        return Belief.of(draw(logits, uniforms, self.exact.unimix), logits, deter, context, gates)

    def _observe(
        self, stoch: Tensor, deter: Tensor, context: Tensor, action: Tensor, seen: Tensor, embedding: Tensor
    ) -> tuple[Tensor, ...]:
        x = self.exact.img_in(stoch, action, seen)
        deter, context, gates = self.exact.transition(x, deter, context)
        read = embedding if self._from_observation else torch.cat([context, deter, embedding], -1)
        logits = self._obs_logit(elu(self._obs_out(read)))
        return logits.unflatten(-1, (self.exact.stoch, self.exact.classes)), deter, context, gates

    def imagine(self, belief: Belief, action: Tensor, uniforms: Tensor | None = None) -> Belief:
        """One imagined step in fp32."""
        return self.exact.imagine(belief, action, uniforms)

    def features(self, belief: Belief) -> Tensor:
        """Fine feature."""
        return self.exact.features(belief)

    # -- observations ----------------------------------------------------------------------------------------------

    def encode(self, observation: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Embeddings ``[B, E]`` of a batch of observations."""
        return self._encoder(observation)

    def decode(self, belief: Belief) -> Tensor | dict[str, Tensor]:
        """The most likely observations of beliefs ``[B, ...]``."""
        return self._decoder.observation(self.exact.features(belief).float())

    def decode_coarse(self, stoch: Tensor, context: Tensor) -> Tensor | dict[str, Tensor]:
        """The most likely observations of coarse states ``[B, S]`` and ``[B, C]``."""
        assert self._coarse_decoder is not None, "the model has no coarse path"
        return self._coarse_decoder.observation(
            torch.cat([one_hots(stoch, self.exact.classes, context), context], -1)
        )
