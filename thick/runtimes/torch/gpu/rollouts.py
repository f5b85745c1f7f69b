"""Candidates imagined and scored on a GPU with eight kernels a step; see :class:`thick.planning.protocols.Rollouts`.

What one step carries to the next lies side by side in one matrix, ``[x | c | h | z]`` with z as one-hots: what a layer
reads are columns of it, and nothing is copied together. A row's one-hots times a matrix take a tensor core less time
than the sum of the matrix's rows takes the memory.

    x = elu(W [z] + W a)        gates, candidate = W [x | c]        c, opened: GateL0RD
    reset, candidate, update = W [x | c | h]        h: GRU        logits = W elu(W [c | h])        z, similarity: drawn

The heads say what is received and do not touch what follows. So ``[c | h | z]`` is kept, and the heads read all steps
between two pauses at once.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from thick.models.beliefs import Belief
from thick.models.networks import AgentNetworks
from thick.planning.protocols import RolloutObjective, Score, SoFar
from thick.planning.randomness import Randomness
from thick.runtimes.torch.frozen import Affine, Head, elu, one_hots
from thick.runtimes.torch.gpu import kernels
from thick.runtimes.torch.gpu.recorded import RecordingDynamics

PAUSE = 16_384
"""imagined steps of candidates between two pauses: about a millisecond of a large GPU at the paper's size"""


class FusedDynamics(RecordingDynamics):
    """A dynamics that imagines and scores whole candidates with kernels of its own.

    Args:
        model: the trained model; :func:`fits` says of which.
        dtype: of weights and activations.
    """

    def __init__(self, model: AgentNetworks, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        heads = self._outcome
        self._embed = self.img_in.table  # [S·K, X]
        self._embed_bias = self.img_in.rest.bias[: self._embed.shape[1]]
        self._action = self.img_in.rest.weight[: self._embed.shape[1]].t().contiguous()  # [A, X]
        # What reads [h, c] reads [c | h] here.
        turned = torch.arange(self.deter + self.context, device=self.gru.weight.device).roll(self.context)
        self._prior = self.img_out.weight[: self.img_out.outputs, turned].t().contiguous()  # [C + H, hidden]
        self._prior_bias = self.img_out.bias[: self.img_out.outputs]
        first = [head.first.rest for head in heads]
        rest = torch.cat([layer.weight[: layer.outputs, turned] for layer in first])
        table = torch.cat([head.first.table for head in heads], 1)
        self._first = torch.cat([rest.t(), table]).t().contiguous()  # [heads · U, C + H + S·K]
        self._first_bias = torch.cat([layer.bias[: layer.outputs] for layer in first])
        further = range(len(heads[0].chain.layers))
        self._further = [_layer([head.chain.layers[index] for head in heads]) for index in further]
        last = [_out(head) for head in heads]
        self._last = torch.stack([layer.weight[0] for layer in last]).contiguous()  # [heads, U]
        self._last_bias = torch.stack([layer.bias[0] for layer in last]).contiguous()

    def rollout(
        self, belief: Belief, candidates: Tensor, objective: RolloutObjective, randomness: Randomness | None
    ) -> Generator[SoFar, None, Score]:
        """See :meth:`thick.planning.protocols.Rollouts.rollout`."""
        batch, count, length = candidates.shape[:3]
        stride = min(length, max(1, PAUSE // (batch * count)))
        run = _Run(self, belief, count, stride, objective)
        tried = candidates.flatten(0, 1)  # [R, H, A]
        keys = None if randomness is None else randomness.folds(length)  # [H, B]
        first = 0 if randomness is None else randomness.row * self.stoch
        for index in range(length):
            if index and index % stride == 0:
                run.receive()
                yield SoFar(index, partial(run.score, index))
            run.step(tried[:, index], None if keys is None else keys[index], first)
        run.receive()
        return run.score(length)


class _Run:
    """The candidates of one rollout, R = B · N rows, in the buffers that the kernels write.

    Args:
        low, belief, objective: see :meth:`FusedDynamics.rollout`.
        count: N.
        steps: that are kept for the heads at most.
    """

    def __init__(
        self, low: FusedDynamics, belief: Belief, count: int, steps: int, objective: RolloutObjective
    ) -> None:
        self.low, self.objective, self.count = low, objective, count
        self.batch = belief.deter.shape[0]
        rows, device = self.batch * count, belief.deter.device
        x, c, h, z = low._embed.shape[1], low.context, low.deter, low.stoch * low.classes
        self.state = torch.empty(rows, x + c + h + z, dtype=low.dtype, device=device)
        self.x, self.context, self.deter, self.stoch = self.state.split((x, c, h, z), 1)
        stoch = one_hots(belief.stoch, low.classes, belief.deter)
        for part, given in ((self.context, belief.context), (self.deter, belief.deter), (self.stoch, stoch)):
            part.unflatten(0, (self.batch, count)).copy_(given[:, None])
        self.kept = torch.empty(steps, rows, c + h + z, dtype=low.dtype, device=device)
        self.held = 0
        """steps that are kept and that the heads have not read"""
        self.fade = 1.0
        zeros = partial(torch.zeros, rows, device=device)
        self.carry = {name: zeros() for name in ("total", "credit", "won")}
        self.carry |= {name: zeros(dtype=torch.int8) for name in ("near", "arrived")}
        self.carry["alive"] = torch.ones(rows, device=device)
        self.seen = {
            "similar": torch.empty(steps, rows, device=device),
            "changed": torch.zeros(steps, rows, dtype=torch.int8, device=device),
        }
        self.goal: dict[str, Tensor] = {}
        if objective.goal is not None:
            assert objective.threshold is not None and objective.ends is not None
            self.goal = {"threshold": objective.threshold.contiguous(), "ends": objective.ends.to(torch.int8)}
            self.aim = objective.goal.contiguous()  # [B, S, K]
            p = belief.logits.float().clamp(-40, 40).exp()
            similar = ((p * self.aim).sum(-1) / torch.linalg.vector_norm(p, dim=-1)).mean(-1)
            near = (similar >= objective.threshold).to(torch.int8)
            self.carry["near"] = near.repeat_interleave(count, output_size=rows)

    def step(self, action: Tensor, keys: Tensor | None, first: int) -> None:
        """One step of all candidates: actions ``[R, A]``, keys ``[B]`` of its uniform numbers."""
        low, goal, objective = self.low, self.goal, self.objective
        x, c, h = self.x.shape[1], low.context, low.deter
        kept_context, kept_deter, kept_stoch = self.kept[self.held].split((c, h, self.stoch.shape[1]), 1)
        seen = {name: each[self.held] for name, each in self.seen.items()}
        kernels.linear_elu(self.stoch, low._embed, low._embed_bias, self.x, action, low._action)
        if low.gatel0rd is not None:
            parts = low.gatel0rd(self.state[:, : x + c]).contiguous()
            expected: dict[str, Any] = {}
            if goal:
                expected = {"goal": objective.context, "distance": objective.distance}
                expected["changed"] = seen["changed"]
            kernels.open_gates(
                parts, self.context, kept_context, low.change_threshold, self.count, **expected
            )
        kernels.recur(low.gru(self.state[:, : x + c + h]), self.deter, kept_deter)
        hidden = self.state.new_empty(self.state.shape[0], low._prior.shape[1])
        kernels.linear_elu(self.state[:, x : x + c + h], low._prior, low._prior_bias, hidden)
        kernels.draw(
            low.img_logit(hidden).unflatten(-1, (low.stoch, low.classes)),
            self.stoch,
            kept_stoch,
            self.count,
            keys,
            first,
            low.unimix,
            self.aim if goal else None,
            seen["similar"] if goal else None,
        )
        self.held += 1

    def receive(self) -> None:
        """What the heads say of the steps that are kept."""
        low, objective, steps = self.low, self.objective, self.held
        read = F.elu_(F.linear(self.kept[:steps].flatten(0, 1), low._first, low._first_bias))
        hidden = read.unflatten(1, (len(low._outcome), -1)).transpose(0, 1)  # [heads, steps · R, U]
        for weight, bias in low._further:
            hidden = torch.bmm(hidden, weight)
            kernels.bias_elu(hidden, bias)
        kernels.receive(
            hidden,
            low._last,
            low._last_bias,
            self.seen,
            self.carry,
            self.goal,
            count=self.count,
            fade=self.fade,
            discount=objective.discount,
            gamma=low.gamma,
            arrival=objective.arrival,
            bonus=objective.bonus,
            ending=objective.ending,
        )
        self.fade *= objective.discount**steps
        self.held = 0

    def score(self, length: int) -> Score:
        """The candidates' scores ``[B, N]``, as if the plan ended after so many steps."""
        low, objective, shape = self.low, self.objective, (self.batch, self.count)
        returns = self.carry["total"].clone()
        if objective.critic:
            assert low._critic is not None
            memory = torch.cat([self.deter, self.context], -1)
            classes = self.stoch.unflatten(1, (low.stoch, low.classes)).argmax(-1)
            (value,) = low._critic(classes, memory)
            returns += objective.discount**length * self.carry["alive"] * value.squeeze(-1)
        score = returns / length
        if self.goal:
            score = score + objective.kappa * self.carry["credit"] / length
        return Score(score.view(shape), returns.view(shape))


def fits(model: AgentNetworks) -> bool:
    """Whether the kernels know a model's form: hidden layers with ELU, and scalars that are means."""
    return model.config.norm == "none" and model.config.scalars == "normal"


def _layer(layers: list[Affine]) -> tuple[Tensor, Tensor]:
    """The same layer of several heads: weights ``[heads, I, O]`` and biases ``[heads, O]``."""
    weights = [layer.weight[: layer.outputs].t() for layer in layers]
    biases = [layer.bias[: layer.outputs] for layer in layers]
    return torch.stack(weights).contiguous(), torch.stack(biases).contiguous()


def _out(head: Head) -> Affine:
    assert head.chain.out is not None and head.activate is elu
    return head.chain.out
