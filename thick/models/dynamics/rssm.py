"""The flat recurrent state-space model of PlaNet and Dreamer, and the parts that the C-RSSM shares."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.models.beliefs import State, Trajectory
from thick.models.distributions import one_hot_mode, one_hot_sample
from thick.models.layers import Dense


class RSSM(nn.Module):
    """Discrete recurrent state-space model (Hafner et al., DreamerV2) with the paper's GRU.

    Args:
        stoch: number of categorical groups S.
        classes: classes of each group K.
        deter: size of h.
        hidden: width of the layers between.
        action: size of an action A.
        embed: size of an embedding E.
        posterior: ``"full"`` reads ``[c', h', e]`` as in the paper; ``"observation"`` reads e alone, so that
            whatever an observation does not show can only be carried by h and c.
        context: size of the context; 0 here.
    """

    context = 0

    def __init__(
        self,
        *,
        stoch: int,
        classes: int,
        deter: int,
        hidden: int,
        action: int,
        embed: int,
        posterior: str = "full",
    ) -> None:
        super().__init__()
        if posterior not in ("full", "observation"):
            raise ValueError(f"posterior: expected 'full' or 'observation', got {posterior!r}")
        self.stoch, self.classes, self.deter, self.hidden, self.action = stoch, classes, deter, hidden, action
        self.posterior_from_observation = posterior == "observation"
        flat = stoch * classes
        memory = self.context + deter
        self.img_in = Dense(flat + action, hidden)
        self.gru = Dense(hidden + memory, 3 * deter)
        self.img_out = Dense(memory, hidden)
        self.img_logit = Dense(hidden, flat)
        self.obs_out = Dense(embed if self.posterior_from_observation else memory + embed, hidden)
        self.obs_logit = Dense(hidden, flat)

    # -- the four verbs ------------------------------------------------------------------------------------

    def initial(self, *leading: int) -> State:
        """The zero state with leading dimensions ``leading``."""
        zeros = self.img_in.weight.new_zeros
        groups = (*leading, self.stoch, self.classes)
        return State(
            zeros(groups),
            zeros(groups),
            zeros((*leading, self.deter)),
            zeros((*leading, self.context)),
            zeros((*leading, self.context)),
        )

    def observe(
        self,
        embed: Tensor,
        action: Tensor,
        is_first: Tensor,
        state: State | None = None,
        *,
        sample: bool = True,
        gate_noise: float = 0.0,
    ) -> Trajectory:
        """Filter sequences of embeddings.

        Args:
            embed: ``[B, T, E]``.
            action: ``[B, T, A]``, the action that led to each observation.
            is_first: ``[B, T]``; state and action are zeroed there.
            state: what the first step starts from, ``[B]``; zero if None.
            sample: sample z (training) or take its mode.
            gate_noise: standard deviation of the noise on the gates.
        """
        batch, time = embed.shape[:2]
        state = self.initial(batch) if state is None else state
        keep = 1.0 - is_first.to(embed.dtype)
        action = action * keep.unsqueeze(-1)
        draw = one_hot_sample if sample else one_hot_mode
        noise = self._noise(embed, batch, time, gate_noise)
        if self.posterior_from_observation:
            logits = self._groups(self.obs_logit(F.elu(self.obs_out(embed))))  # [B, T, S, K]
            stoch = draw(logits)
            previous = torch.cat([state.stoch.unsqueeze(1), stoch[:, :-1]], 1) * keep[..., None, None]
            x = F.elu(self.img_in(torch.cat([previous.flatten(-2), action], -1)))  # [B, T, hidden]
            deter, context, gates = self._scan(x, state, keep, noise)
        else:
            stoch, logits, previous, deter, context, gates = self._filter(
                embed, action, keep, state, noise, draw
            )
        prior = self.prior(deter, context)
        coarse = self.coarse_prior(previous, action, context)
        return Trajectory(State(stoch, logits, deter, context, gates), prior, coarse, previous, action)

    def imagine_step(self, state: State, action: Tensor, *, sample: bool = True) -> State:
        """One step without an observation; z is drawn from the fine prior. Any leading dimensions."""
        x = F.elu(self.img_in(torch.cat([state.stoch.flatten(-2), action], -1)))
        deter, context, gates = self._transition(x, state.deter, state.context, None)
        logits = self.prior(deter, context)
        draw = one_hot_sample if sample else one_hot_mode
        return State(draw(logits), logits, deter, context, gates)

    def imagine(self, state: State, action: Tensor, *, sample: bool = True) -> State:
        """The rollout of ``action`` ``[B, T, A]`` from ``state`` ``[B]``; returns states ``[B, T, ...]``."""
        steps = []
        for time in range(action.shape[1]):
            state = self.imagine_step(state, action[:, time], sample=sample)
            steps.append(state)
        return State(*(torch.stack(parts, 1) for parts in zip(*steps, strict=True)))

    def features(self, state: State) -> Tensor:
        """Fine feature ``[z, h, c]``, ``[..., S·K + H + C]``."""
        return torch.cat([state.stoch.flatten(-2), state.deter, state.context], -1)

    def update_gates(self, state: State, action: Tensor) -> Tensor:
        """How far each unit of h moves on a step from ``state`` with ``action``, ``[..., H]`` in (0, 1)."""
        x = F.elu(self.img_in(torch.cat([state.stoch.flatten(-2), action], -1)))
        _, context, _ = self._transition(x, state.deter, state.context, None)
        joint = torch.cat([x, context, state.deter], -1)
        return torch.sigmoid(self.gru(joint).chunk(3, -1)[2] - 1)

    # -- parts -----------------------------------------------------------------------------------------------

    def prior(self, deter: Tensor, context: Tensor) -> Tensor:
        """Fine prior logits ``[..., S, K]`` of h and c."""
        return self._groups(self.img_logit(F.elu(self.img_out(torch.cat([deter, context], -1)))))

    def coarse_prior(self, stoch: Tensor, action: Tensor, context: Tensor) -> Tensor | None:
        """Prior that does not see h; a flat RSSM has none."""
        return None

    def _transition(
        self, x: Tensor, deter: Tensor, context: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step of h and c from the input layer's output ``[..., hidden]``."""
        return self._recur(self._project(x), self._recurrent_weights(), deter, context, noise)

    def _project(self, x: Tensor) -> Tensor:
        """The input's share of all recurrent pre-activations: taken out of the loop over time."""
        return F.linear(x, self.gru.weight[:, : self.hidden], self.gru.bias)

    def _recurrent_weights(self) -> tuple[Tensor, ...]:
        """The weights that stay in the loop."""
        return (self.gru.weight[:, self.hidden :],)

    def _recur(
        self,
        projected: Tensor,
        weights: tuple[Tensor, ...],
        deter: Tensor,
        context: Tensor,
        noise: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self._gru(projected + F.linear(deter, weights[0]), deter), context, context

    def _gru(self, pre_activation: Tensor, deter: Tensor) -> Tensor:
        reset, candidate, update = pre_activation.chunk(3, -1)
        update = torch.sigmoid(update - 1)
        return deter + update * (torch.tanh(torch.sigmoid(reset) * candidate) - deter)

    def _noise(self, like: Tensor, batch: int, time: int, scale: float) -> Tensor | None:
        if scale == 0 or self.context == 0:
            return None
        return scale * torch.randn(batch, time, self.context, dtype=like.dtype, device=like.device)

    def _scan(
        self, x: Tensor, state: State, keep: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h, c and gates along time where z is known beforehand."""
        deter, context = state.deter, state.context
        # The loop runs on a few small matrices: in bf16 the casts would cost more than the products.
        projected, weights = self._project(x).float().unbind(1), self._recurrent_weights()
        alive, noises = keep.unsqueeze(-1).unbind(1), None if noise is None else noise.unbind(1)
        steps = []
        with torch.autocast(x.device.type, enabled=False):
            for time in range(x.shape[1]):
                deter, context, gates = self._recur(
                    projected[time],
                    weights,
                    deter * alive[time],
                    context * alive[time],
                    None if noises is None else noises[time],
                )
                steps.append((deter, context, gates))
        deters, contexts, opened = zip(*steps, strict=True)
        return torch.stack(deters, 1), torch.stack(contexts, 1), torch.stack(opened, 1)

    def _filter(self, embed, action, keep, state, noise, draw):  # type: ignore[no-untyped-def]
        """z, h, c and gates along time where the posterior reads h and c: z must be drawn step by step."""
        memory = self.context + self.deter
        weight = self.obs_out.weight
        observed = F.linear(embed, weight[:, memory:], self.obs_out.bias)  # [B, T, hidden], out of the loop
        stoch, deter, context = state.stoch, state.deter, state.context
        steps = []
        for time in range(embed.shape[1]):
            alive = keep[:, time, None]
            previous = stoch * alive.unsqueeze(-1)
            x = F.elu(self.img_in(torch.cat([previous.flatten(-2), action[:, time]], -1)))
            deter, context, gates = self._transition(
                x, deter * alive, context * alive, None if noise is None else noise[:, time]
            )
            remembered = F.linear(torch.cat([context, deter], -1), weight[:, :memory])
            logits = self._groups(self.obs_logit(F.elu(remembered + observed[:, time])))
            stoch = draw(logits)
            steps.append((stoch, logits, previous, deter, context, gates))
        return tuple(torch.stack(parts, 1) for parts in zip(*steps, strict=True))

    def _groups(self, logits: Tensor) -> Tensor:
        return logits.unflatten(-1, (self.stoch, self.classes))
