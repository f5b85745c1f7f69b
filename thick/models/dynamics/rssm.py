"""The flat recurrent state-space model of PlaNet and Dreamer, and the parts that the C-RSSM shares."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.models.beliefs import State, Trajectory
from thick.models.classes import Classes, join
from thick.models.distributions import class_mode, class_sample, mixed_logits, one_hot_mode, one_hot_sample
from thick.models.dynamics.scan import Cell, Filter, Scan
from thick.models.functions import elu
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
        unimix: share of the uniform distribution in that of z.
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
        unimix: float = 0.0,
    ) -> None:
        super().__init__()
        if posterior not in ("full", "observation"):
            raise ValueError(f"posterior: expected 'full' or 'observation', got {posterior!r}")
        self.stoch, self.classes, self.deter, self.hidden, self.action = stoch, classes, deter, hidden, action
        self.unimix = unimix
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
            state: what the first step starts from, ``[B]``, without gradient; zero if None.
            sample: sample z (training) or take its mode.
            gate_noise: standard deviation of the noise on the gates.
        """
        batch, time = embed.shape[:2]
        state = State(*(part.detach() for part in state or self.initial(batch)))
        keep = 1.0 - is_first.to(embed.dtype)
        action = action * keep.unsqueeze(-1)
        noise = self._noise(embed, batch, time, gate_noise)
        run = self._scan if self.posterior_from_observation else self._filter
        # The loop runs on a few small matrices: in bf16 the casts would cost more than the products.
        stoch, logits, previous, memory, gates = run(embed, action, keep, state, noise, sample)
        context, deter = memory.split((self.context, self.deter), -1)
        prior = self.prior(deter, context)
        coarse = self.coarse_prior(previous, action, context)
        return Trajectory(State(stoch, logits, deter, context, gates), prior, coarse, previous, action)

    def imagine_step(self, state: State, action: Tensor, *, sample: bool = True) -> State:
        """One step without an observation; z is drawn from the fine prior. Any leading dimensions.

        The state may have z by its classes (:class:`~thick.models.classes.Classes`); the next one then has as well.
        """
        x = elu(self.img_in(join(state.stoch, action)))
        deter, context, gates = self._transition(x, state.deter, state.context, None)
        logits = self.prior(deter, context)
        if isinstance(state.stoch, Classes):
            draw: Any = class_sample if sample else class_mode
        else:
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
        """Fine feature ``[z, h, c]``, ``[..., S·K + H + C]``; of a state with z by its classes, what stands for it."""
        return join(state.stoch, state.deter, state.context)  # type: ignore[no-any-return]

    def update_gates(self, state: State, action: Tensor) -> Tensor:
        """How far each unit of h moves on a step from ``state`` with ``action``, ``[..., H]`` in (0, 1)."""
        x = elu(self.img_in(torch.cat([state.stoch.flatten(-2), action], -1)))
        _, context, _ = self._transition(x, state.deter, state.context, None)
        joint = torch.cat([x, context, state.deter], -1)
        return torch.sigmoid(self.gru(joint).chunk(3, -1)[2] - 1)

    # -- parts -----------------------------------------------------------------------------------------------

    def prior(self, deter: Tensor, context: Tensor) -> Tensor:
        """Fine prior logits ``[..., S, K]`` of h and c."""
        return self._groups(self.img_logit(elu(self.img_out(torch.cat([deter, context], -1)))))

    def coarse_prior(self, stoch: Tensor | Classes, action: Tensor, context: Tensor) -> Tensor | None:
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

    def _recurrent(self) -> Recurrent:
        """The weights of all pre-activations, in the order of :mod:`thick.models.dynamics.scan`."""
        hidden, weight = self.hidden, _reordered(self.gru.weight)
        # The update gate's pre-activation is less by one.
        less = torch.cat(
            [weight.new_zeros(self.deter), weight.new_ones(self.deter), weight.new_zeros(self.deter)]
        )
        cell = Cell(weight.new_zeros(0, 0), weight[:, hidden:])
        return Recurrent(weight[:, :hidden], _reordered(self.gru.bias) - less, cell)

    def _scan(
        self, embed: Tensor, action: Tensor, keep: Tensor, state: State, noise: Tensor | None, sample: bool
    ) -> tuple[Tensor, ...]:
        """z, c, h and gates along time where z is known beforehand, since the posterior reads the embedding alone."""
        logits = self._groups(self.obs_logit(elu(self.obs_out(embed))))  # [B, T, S, K]
        stoch = (one_hot_sample if sample else one_hot_mode)(logits)
        previous = torch.cat([state.stoch.unsqueeze(1), stoch[:, :-1]], 1) * keep[..., None, None]
        x = elu(self.img_in(torch.cat([previous.flatten(-2), action], -1)))  # [B, T, hidden]
        weights = self._recurrent()
        projected = F.linear(x, weights.project, weights.bias).float()
        with torch.autocast(x.device.type, enabled=False):
            projected = _along_time(self._noisy(projected, noise))
            memory = torch.cat([state.context, state.deter], -1)
            after, gates = Scan.apply(projected, _along_time(keep.unsqueeze(-1)), memory, *weights.cell)
        return stoch, logits, previous, after.transpose(0, 1), gates.transpose(0, 1)

    def _filter(
        self, embed: Tensor, action: Tensor, keep: Tensor, state: State, noise: Tensor | None, sample: bool
    ) -> tuple[Tensor, ...]:
        """The same where the posterior reads h and c: z must be drawn step by step."""
        remembered = self.context + self.deter
        flat, weights, posterior = self.stoch * self.classes, self._recurrent(), self.obs_out.weight
        observed = F.linear(embed, posterior[:, remembered:], self.obs_out.bias).float()
        batch, time = embed.shape[:2]
        with torch.autocast(embed.device.type, enabled=False):
            acted = F.linear(action, self.img_in.weight[:, flat:], self.img_in.bias)
            base = self._noisy(weights.bias.expand(batch, time, -1), noise)
            uniform = acted.new_empty(time, batch, self.stoch, 1).uniform_() if sample else None
            logits, chances, index, after, gates = Filter.apply(
                *map(_along_time, (acted, base, observed, keep.unsqueeze(-1))),
                uniform,
                self.unimix,
                state.stoch,
                torch.cat([state.context, state.deter], -1),
                *weights.cell,
                self.img_in.weight[:, :flat],
                weights.project,
                posterior[:, :remembered],
                self.obs_logit.weight,
                self.obs_logit.bias,
            )
            stoch = F.one_hot(index, self.classes).to(chances.dtype)
            logits = mixed_logits(logits, self.unimix)
            if sample:
                chances = (1 - self.unimix) * chances
                stoch = stoch + (chances - chances.detach())
            stoch, logits, after, gates = (part.transpose(0, 1) for part in (stoch, logits, after, gates))
            previous = torch.cat([state.stoch.unsqueeze(1), stoch[:, :-1]], 1) * keep[..., None, None]
        return stoch, logits, previous, after, gates

    def _noisy(self, projected: Tensor, noise: Tensor | None) -> Tensor:
        """Pre-activations ``[B, T, …]`` with the noise of the gates, which come first."""
        if noise is None:
            return projected
        gates = self._gates()
        return torch.cat([projected[..., :gates] + noise[..., :gates], projected[..., gates:]], -1)

    def _gates(self) -> int:
        """Number of gates with a pre-activation of their own."""
        return 0

    def _groups(self, logits: Tensor) -> Tensor:
        """Logits ``[..., S, K]`` of z's distribution, from a layer's output ``[..., S·K]``."""
        return mixed_logits(logits.unflatten(-1, (self.stoch, self.classes)), self.unimix)


class Recurrent(NamedTuple):
    """Weights of the recurrent part, rows in the order of :mod:`thick.models.dynamics.scan`."""

    project: Tensor
    """[…, hidden], from the input layer"""
    bias: Tensor
    """[…]"""
    cell: Cell


def _reordered(weight: Tensor) -> Tensor:
    """Rows reset, candidate, update as reset, update, candidate."""
    reset, candidate, update = weight.chunk(3)
    return torch.cat([reset, update, candidate])


def _along_time(sequence: Tensor) -> Tensor:
    """``[B, T, ...] -> [T, B, ...]``, each step in one piece."""
    return sequence.transpose(0, 1).contiguous()
