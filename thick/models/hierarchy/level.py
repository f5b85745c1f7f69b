"""The high level of THICK: predicts, from one state, how the current segment will end (paper, section 3)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.models.beliefs import State
from thick.models.classes import Classes, join
from thick.models.distributions import (
    categorical_kl,
    class_mode,
    class_sample,
    normal_log_prob,
    one_hot_mode,
    one_hot_sample,
    truncated_normal_log_prob,
    truncated_normal_sample,
)
from thick.models.dynamics.crssm import CRSSM
from thick.models.functions import balanced_kl, elu
from thick.models.layers import MLP, Dense, exact


class SegmentPrediction(NamedTuple):
    """What the high level says of the end of a segment, given a high-level action; any leading dimensions."""

    stoch_logits: Tensor
    """[*B, S, K] logits of z[τ-1], the state just before the change"""
    action: Tensor
    """[*B, A] logits (discrete) or mean (continuous) of the action that leads into the change"""
    action_std: Tensor | None
    """[*B, A], continuous actions only"""
    time: Tensor
    """[*B] mean of Δ, the steps that pass before that action"""
    time_std: Tensor
    """[*B]"""
    returns: Tensor
    """[*B] discounted return of the segment"""


class SegmentBatch(NamedTuple):
    """Targets of the high level; ``[B, T-1, ...]``, all detached."""

    stoch: Tensor
    """[..., S, K] z[t]"""
    context: Tensor
    """[..., C] c[t]"""
    next_context: Tensor
    """[..., C] c[τ]"""
    target_stoch: Tensor
    """[..., S, K] z[τ-1]"""
    target_logits: Tensor
    """[..., S, K] posterior logits of z[τ-1]"""
    action: Tensor
    """[..., A] a[τ]"""
    elapsed: Tensor
    """[...]"""
    returns: Tensor
    """[...]"""
    mask: Tensor
    """[...]"""


class Jump(NamedTuple):
    """One step of the high level, from change to change; any leading dimensions."""

    stoch_before: Tensor
    """[*B, S, K] ẑ[τ-1], the subgoal"""
    logits_before: Tensor
    """[*B, S, K] its logits"""
    action: Tensor
    """[*B, A] â, the action that leads into the change"""
    context: Tensor
    """[*B, C] c[τ]"""
    gates: Tensor
    """[*B, C]"""
    stoch: Tensor
    """[*B, S, K] coarse z[τ]"""
    logits: Tensor
    """[*B, S, K] its logits"""
    elapsed: Tensor
    """[*B] steps from now to τ"""
    returns: Tensor
    """[*B] discounted return up to, not including, τ"""


class HighLevel(nn.Module):
    """High-level actions, and heads that predict the end of a segment from state and high-level action.

    Args:
        stoch, classes, context: sizes of the low level.
        action: size of a low-level action.
        continuous: whether low-level actions are continuous.
        actions: number of high-level actions G.
        hidden: width of body, prior and posterior.
        head_units: width of the heads' layers.
        body_layers, head_layers: numbers of layers, 3 and 2 in the paper.
    """

    def __init__(
        self,
        *,
        stoch: int,
        classes: int,
        context: int,
        action: int,
        continuous: bool,
        actions: int,
        hidden: int,
        head_units: int,
        body_layers: int = 3,
        head_layers: int = 2,
    ) -> None:
        super().__init__()
        self.stoch, self.classes, self.actions, self.continuous = stoch, classes, actions, continuous
        flat = stoch * classes
        state = flat + context
        self.prior_hidden, self.prior_logit = Dense(state, hidden), Dense(hidden, actions)
        self.posterior_hidden = Dense(state + context + flat, hidden)
        self.posterior_logit = Dense(hidden, actions)
        self.body_layers = body_layers
        for index in range(body_layers):
            self.add_module(f"body{index}", Dense(hidden if index else state + actions, hidden))
        self.stoch_hidden, self.stoch_logit = Dense(hidden, hidden), Dense(hidden, flat)
        self.action_head = _Head(hidden, head_units, head_layers, action, std=continuous)
        self.time_head = _Head(hidden, head_units, head_layers, 1, std=True)
        self.reward_head = _Head(hidden, head_units, head_layers, 1, std=False)

    def prior(self, stoch: Tensor, context: Tensor) -> Tensor:
        """Logits of p(A | s), ``[..., G]``."""
        return self.prior_logit(elu(self.prior_hidden(join(stoch, context))))

    def posterior(self, stoch: Tensor, context: Tensor, next_context: Tensor, target: Tensor) -> Tensor:
        """Logits of q(A | s, c[τ], z[τ-1]), ``[..., G]``."""
        joint = join(stoch, context, next_context, target.flatten(-2))
        return self.posterior_logit(elu(self.posterior_hidden(joint)))

    def predict(self, stoch: Tensor, context: Tensor, high_action: Tensor) -> SegmentPrediction:
        """The end of the segment for high-level actions given as one-hots ``[..., G]``."""
        x = join(stoch, context, high_action)
        for index in range(self.body_layers):
            x = elu(self.get_submodule(f"body{index}")(x))
        stoch_logits = self.stoch_logit(elu(self.stoch_hidden(x)))
        action, action_std = self.action_head(x)
        time, time_std = self.time_head(x)
        returns, _ = self.reward_head(x)
        return SegmentPrediction(
            stoch_logits.unflatten(-1, (self.stoch, self.classes)),
            torch.tanh(action) if self.continuous else action,
            None if action_std is None else 2 * torch.sigmoid(action_std / 2) + 0.1,
            torch.relu(time).squeeze(-1),
            (F.elu(time_std) + 1.1).squeeze(-1),
            returns.squeeze(-1),
        )

    def losses(
        self,
        batch: SegmentBatch,
        *,
        balance: float,
        sample: bool = True,
        high_action: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Loss terms, masked and averaged over all entries, and plain metrics.

        Args:
            batch: targets.
            balance: weight of the prior's side in the KL between q(A) and p(A).
            sample: draw A from q (training) or take its mode.
            high_action: one-hots ``[..., G]`` in place of either.
        """
        prior = self.prior(batch.stoch, batch.context)
        posterior = self.posterior(batch.stoch, batch.context, batch.next_context, batch.target_stoch)
        if high_action is None:
            high_action = (one_hot_sample if sample else one_hot_mode)(posterior)
        prediction = self.predict(batch.stoch, batch.context, high_action)
        kl, kl_value = balanced_kl(posterior.unsqueeze(-2), prior.unsqueeze(-2), balance)
        terms = {
            "state": categorical_kl(batch.target_logits, prediction.stoch_logits).sum(-1),
            "high_action": kl,
            "action": -self.action_log_prob(prediction, batch.action),
            "time": -normal_log_prob(batch.elapsed, prediction.time, prediction.time_std),
            "returns": -normal_log_prob(batch.returns, prediction.returns),
        }
        losses = {name: (term * batch.mask).mean() for name, term in terms.items()}
        count = batch.mask.sum().clamp_min(1)
        usage = (high_action.detach() * batch.mask.unsqueeze(-1)).flatten(0, -2).sum(0) / count
        metrics = {
            f"per_segment/{name}": ((term * batch.mask).sum() / count).detach()
            for name, term in terms.items()
        }
        metrics["mask"] = batch.mask.mean()
        metrics["elapsed"] = (batch.elapsed * batch.mask).sum() / count
        metrics["posterior_prior_kl"] = (kl_value * batch.mask).sum() / count
        metrics["usage_entropy"] = -(usage * usage.clamp_min(1e-8).log()).sum()
        return losses, metrics

    def action_log_prob(self, prediction: SegmentPrediction, action: Tensor) -> Tensor:
        """Log probability of the low-level action a[τ], ``[...]``."""
        if self.continuous:
            assert prediction.action_std is not None
            return truncated_normal_log_prob(action, prediction.action, prediction.action_std).sum(-1)
        return (action * prediction.action.log_softmax(-1)).sum(-1)

    def jump(
        self,
        dynamics: CRSSM,
        stoch: Tensor,
        context: Tensor,
        high_action: Tensor,
        *,
        max_time: float = float("inf"),
        sample: bool = False,
    ) -> Jump:
        """From ``s = (z[t], c[t])`` to just after the next change (maths: "One jump of the high level").

        Args:
            dynamics: the low level; one imagined step of its context and coarse path leads into the change.
            stoch: ``[..., S, K]`` one-hot, or :class:`~thick.models.classes.Classes`, which the jump then has as well.
            context: ``[..., C]``.
            high_action: ``[..., G]`` one-hot.
            max_time: bound of the predicted Δ.
            sample: sample states and the action instead of taking their modes.
        """
        if isinstance(stoch, Classes):
            draw: Any = class_sample if sample else class_mode
        else:
            draw = one_hot_sample if sample else one_hot_mode
        prediction = self.predict(stoch, context, high_action)
        before = draw(prediction.stoch_logits)
        action = self._action(prediction, sample=sample)
        state = State(before, prediction.stoch_logits, context[..., :0], context, context)
        next_context, gates, coarse = dynamics.context_step(state, action)
        elapsed = prediction.time.clamp(0, max_time) + 1
        return Jump(
            before,
            prediction.stoch_logits,
            action,
            next_context,
            gates,
            draw(coarse),
            coarse,
            elapsed,
            prediction.returns,
        )

    def _action(self, prediction: SegmentPrediction, *, sample: bool) -> Tensor:
        """The low-level action â that leads into the change, ``[..., A]``."""
        if not self.continuous:
            return (one_hot_sample if sample else one_hot_mode)(prediction.action)
        if not sample:
            return prediction.action
        assert prediction.action_std is not None
        return truncated_normal_sample(prediction.action, prediction.action_std)


class _Head(nn.Module):
    """ELU layers and a linear output, with a second output for the spread where asked."""

    def __init__(self, inputs: int, units: int, layers: int, outputs: int, *, std: bool) -> None:
        super().__init__()
        self.mlp = MLP(inputs, units, layers)
        self.out = Dense(units, outputs)
        self.std = Dense(units, outputs) if std else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        x = self.mlp(x)
        return exact(self.out, x), None if self.std is None else exact(self.std, x)
