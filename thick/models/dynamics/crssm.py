"""C-RSSM: an RSSM with a context that changes only when something important happens (THICK, section 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from thick.models.beliefs import State
from thick.models.classes import Classes, join
from thick.models.dynamics.gatel0rd import GateL0RD, count_changes, update_context
from thick.models.dynamics.rssm import RSSM, Recurrent
from thick.models.dynamics.scan import Cell
from thick.models.functions import elu
from thick.models.layers import MLP, Dense


class CRSSM(RSSM):
    """RSSM whose GRU and fine prior also read a GateL0RD context, with a coarse prior in addition.

    The coarse prior reads ``[z, a, c']`` and never h, so a rollout of z and c alone is possible: that is what
    the high level jumps with.

    Args:
        context: size of the context.
        summary_layers: layers between ``[z, a, c']`` and the coarse prior.
        change_threshold: see :func:`thick.models.dynamics.gatel0rd.count_changes`.
        gates: each dimension of the context has its own (each, as in the paper), or one hard gate for all (shared).
        sizes: see :class:`RSSM`.
    """

    def __init__(
        self,
        *,
        context: int,
        summary_layers: int = 3,
        change_threshold: float = 0.0,
        gates: str = "each",
        **sizes: object,
    ) -> None:
        self.context, self.change_threshold = context, change_threshold
        super().__init__(**sizes)  # type: ignore[arg-type]
        flat = self.stoch * self.classes
        self.gatel0rd = GateL0RD(self.hidden, context, shared=gates == "shared")
        self.ctxt_head = MLP(flat + self.action + context, self.hidden, summary_layers, self.deter)
        self.ctxt_img_out = Dense(flat + self.deter, self.hidden)
        self.ctxt_img_logit = Dense(self.hidden, flat)

    def coarse_prior(self, stoch: Tensor | Classes, action: Tensor, context: Tensor) -> Tensor:
        """Coarse prior logits ``[..., S, K]`` of z and a before, and the context after, the step."""
        summary = self.ctxt_head(join(stoch, action, context))
        return self._groups(self.ctxt_img_logit(elu(self.ctxt_img_out(join(stoch, summary)))))

    def coarse_features(self, stoch: Tensor | Classes, context: Tensor) -> Tensor:
        """Coarse feature ``[z, c]``, ``[..., S·K + C]``."""
        return join(stoch, context)  # type: ignore[no-any-return]

    def changes(self, posterior: State, is_first: Tensor) -> Tensor:
        """Gates of a filtered sequence that changed their context, ``[B, T, C]``.

        Args:
            posterior: ``[B, T, ...]``.
            is_first: ``[B, T]``, where the context was zero before the step.
        """
        context = posterior.context
        before = torch.cat([torch.zeros_like(context[:, :1]), context[:, :-1]], 1)
        before = before * (1 - is_first.to(context.dtype)).unsqueeze(-1)
        return count_changes(posterior.gates, before, context, self.change_threshold)

    def context_step(self, state: State, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Context, gates and coarse logits after ``action`` from z and c alone (h plays no part)."""
        x = elu(self.img_in(join(state.stoch, action)))
        context, gates = self.gatel0rd(x, state.context)
        return context, gates, self.coarse_prior(state.stoch, action, context)

    def _project(self, x: Tensor) -> Tensor:
        gates = (self.gatel0rd.gate, self.gatel0rd.candidate, self.gru)
        weight = torch.cat([layer.weight[:, : self.hidden] for layer in gates])
        return F.linear(x, weight, torch.cat([layer.bias for layer in gates]))

    def _recurrent_weights(self) -> tuple[Tensor, ...]:
        cell = torch.cat([self.gatel0rd.gate.weight, self.gatel0rd.candidate.weight])
        return cell[:, self.hidden :], self.gru.weight[:, self.hidden :]

    def _recurrent(self) -> Recurrent:
        hidden, gru = self.hidden, super()._recurrent()
        own = torch.cat([self.gatel0rd.gate.weight, self.gatel0rd.candidate.weight])
        bias = torch.cat([self.gatel0rd.gate.bias, self.gatel0rd.candidate.bias, gru.bias])
        cell = Cell(own[:, hidden:], gru.cell.memory)
        return Recurrent(torch.cat([own[:, :hidden], gru.project]), bias, cell)

    def _gates(self) -> int:
        return self.gatel0rd.sizes[0]

    def _recur(
        self,
        projected: Tensor,
        weights: tuple[Tensor, ...],
        deter: Tensor,
        context: Tensor,
        noise: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gates_and_candidates = self.gatel0rd.sizes
        cell, gru = projected.split((sum(gates_and_candidates), 3 * self.deter), -1)
        gate, candidate = (cell + F.linear(context, weights[0])).split(gates_and_candidates, -1)
        context, gates = update_context(gate, candidate, context, noise)
        return self._gru(gru + F.linear(torch.cat([context, deter], -1), weights[1]), deter), context, gates
