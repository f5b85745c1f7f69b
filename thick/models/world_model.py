"""A world model: encoder, dynamics, heads and, for THICK, the high level; and its losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from thick.envs.actions import ActionCodec
from thick.models.actor import Actor
from thick.models.batch import Batch
from thick.models.beliefs import Trajectory
from thick.models.config import ModelConfig
from thick.models.distributions import balanced_kl, bernoulli_log_prob, normal_log_prob
from thick.models.dynamics.crssm import CRSSM
from thick.models.dynamics.rssm import RSSM
from thick.models.encoders import Decoder, Encoder
from thick.models.hierarchy.level import HighLevel, SegmentBatch
from thick.models.hierarchy.segments import at_segment_end, segment_ends, segment_targets
from thick.models.layers import MLP


class Heads(nn.Module):
    """Decoder, reward and discount on one feature; the C-RSSM has a fine and a coarse set."""

    def __init__(self, inputs: int, space: gymnasium.Space, config: ModelConfig) -> None:
        super().__init__()
        self.decoder = Decoder(
            inputs, space, cnn_depth=config.cnn_depth, units=config.mlp_units, layers=config.mlp_layers
        )
        self.reward = MLP(inputs, config.head_units, config.head_layers, 1)
        self.discount = (
            MLP(inputs, config.head_units, config.head_layers, 1) if config.discount_head else None
        )


class WorldModel(nn.Module):
    """Everything that is learned of an environment.

    Args:
        config: sizes and losses.
        observation_space: Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of these.
        action_space: Discrete, MultiDiscrete, MultiBinary or Box.
    """

    def __init__(
        self, config: ModelConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space
    ) -> None:
        super().__init__()
        self.config = config
        self.observation_space, self.action_space = observation_space, action_space
        codec = ActionCodec(action_space)
        self.continuous, action = not codec.discrete, codec.size
        self.encoder = Encoder(
            observation_space, cnn_depth=config.cnn_depth, units=config.mlp_units, layers=config.mlp_layers
        )
        cell: dict[str, Any] = {
            "stoch": config.stoch,
            "classes": config.classes,
            "deter": config.deter,
            "hidden": config.hidden,
            "action": action,
            "embed": self.encoder.size,
            "posterior": config.posterior,
        }
        flat_model = config.kind == "rssm"
        self.dynamics = (
            RSSM(**cell)
            if flat_model
            else CRSSM(context=config.context, change_threshold=config.change_threshold, **cell)
        )
        flat = config.stoch * config.classes
        context = self.dynamics.context
        fine = flat + config.deter + context
        self.heads = Heads(fine, observation_space, config)
        self.coarse_heads = None if flat_model else Heads(flat + context, observation_space, config)
        self.high = (
            HighLevel(
                stoch=config.stoch,
                classes=config.classes,
                context=context,
                action=action,
                continuous=self.continuous,
                actions=config.high.actions,
                hidden=config.high.hidden,
                head_units=config.high.head_units,
            )
            if config.kind == "thick"
            else None
        )
        sizes = {"units": config.head_units, "layers": config.head_layers}
        self.actor = self.critic = self.coarse_critic = None
        if config.actor_critic:
            self.actor = Actor(fine, action, continuous=self.continuous, **sizes)
            self.critic = MLP(fine, outputs=1, **sizes)
            if self.high is not None:
                self.coarse_critic = MLP(flat + context, outputs=1, **sizes)

    # -- low level -------------------------------------------------------------------------------------------

    def low_level_parameters(self) -> list[nn.Parameter]:
        """Parameters of everything but the high level, the actor and the critics."""
        others = ("high.", "actor.", "critic.", "coarse_critic.")
        return [weight for name, weight in self.named_parameters() if not name.startswith(others)]

    def critic_parameters(self) -> list[nn.Parameter]:
        """Parameters of the critics; empty where there are none."""
        critics = (self.critic, self.coarse_critic)
        return [weight for critic in critics if critic is not None for weight in critic.parameters()]

    def target_reward(self, reward: Tensor) -> Tensor:
        """What the reward heads are trained to predict."""
        return torch.tanh(reward) if self.config.clip_rewards == "tanh" else reward

    def losses(
        self, batch: Batch, *, scales: Mapping[str, float] | None = None
    ) -> tuple[Tensor, Trajectory, dict[str, Tensor], dict[str, Tensor]]:
        """Losses of the low level.

        Args:
            batch: sequences.
            scales: weights that replace the configuration's (for schedules), by the names of the terms.

        Returns:
            The weighted total, the filtered trajectory, the unweighted terms and metrics.
        """
        config = self.config
        trajectory = self.dynamics.observe(
            self.encoder(batch.observation),
            batch.action,
            batch.is_first,
            gate_noise=config.gate_noise if self.training else 0.0,
        )
        posterior = trajectory.posterior
        terms = self._head_losses(self.heads, self.dynamics.features(posterior), batch, prefix="")
        kl, kl_value = balanced_kl(posterior.logits, trajectory.prior_logits, config.kl_balance)
        terms["kl"] = kl.mean()
        metrics = {"kl": kl_value.mean()}
        if isinstance(self.dynamics, CRSSM):
            assert self.coarse_heads is not None and trajectory.coarse_logits is not None
            coarse = self.dynamics.coarse_features(posterior.stoch, posterior.context)
            terms |= self._head_losses(self.coarse_heads, coarse, batch, prefix="coarse_")
            coarse_kl, value = balanced_kl(posterior.logits, trajectory.coarse_logits, config.kl_balance)
            terms["coarse_kl"] = coarse_kl.mean()
            terms["sparsity"] = posterior.gates.mean()
            inside = 1 - batch.is_first.float()
            opened = (self.dynamics.changes(posterior, batch.is_first) > 0).any(-1).float()
            metrics["coarse_kl"] = value.mean()
            metrics["context_change"] = (opened * inside).sum() / inside.sum().clamp_min(1)
        weights = asdict(config.loss) | dict(scales or {})
        total = sum(weights[name] * term for name, term in terms.items())
        return total, trajectory, terms, metrics  # type: ignore[return-value]

    def _head_losses(self, heads: Heads, feature: Tensor, batch: Batch, *, prefix: str) -> dict[str, Tensor]:
        decoded = heads.decoder.log_prob(heads.decoder(feature), batch.observation)
        reward = normal_log_prob(self.target_reward(batch.reward), heads.reward(feature).squeeze(-1))
        terms = {f"{prefix}decoder": -decoded.mean(), f"{prefix}reward": -reward.mean()}
        if heads.discount is not None:
            target = self.config.discount * (1 - batch.is_terminal.float())
            terms[f"{prefix}discount"] = -bernoulli_log_prob(
                heads.discount(feature).squeeze(-1), target
            ).mean()
        return terms

    # -- high level ------------------------------------------------------------------------------------------

    def segment_batch(self, batch: Batch, trajectory: Trajectory) -> SegmentBatch:
        """Targets of the high level from a filtered trajectory; everything detached (the batch is not encoded
        a second time)."""
        posterior = type(trajectory.posterior)(*(part.detach() for part in trajectory.posterior))
        assert isinstance(self.dynamics, CRSSM)
        gates = self.dynamics.changes(posterior, batch.is_first)
        ends = segment_ends(gates, batch.is_terminal, self.config.high.segment_ends)
        segments = segment_targets(
            ends, batch.is_first, self.target_reward(batch.reward), self.config.discount
        )
        return SegmentBatch(
            posterior.stoch[:, :-1],
            posterior.context[:, :-1],
            at_segment_end(posterior.context, segments),
            at_segment_end(posterior.stoch, segments, offset=-1),
            at_segment_end(posterior.logits, segments, offset=-1),
            at_segment_end(batch.action, segments),
            segments.elapsed,
            segments.returns,
            segments.mask,
        )

    def high_losses(
        self, batch: Batch, trajectory: Trajectory
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Losses of the high level: weighted total, unweighted terms, metrics."""
        assert self.high is not None, "the model has no high level (kind is not 'thick')"
        config = self.config.high
        terms, metrics = self.high.losses(self.segment_batch(batch, trajectory), balance=config.kl_balance)
        scales = {
            "state": config.state_scale,
            "high_action": config.high_action_scale,
            "action": config.action_scale,
            "time": config.time_scale,
            "return": config.return_scale,
        }
        total = sum(scales[name] * term for name, term in terms.items())
        return total, terms, metrics  # type: ignore[return-value]


def action_size(space: gymnasium.Space) -> int:
    """Size of an action inside the model: the number of choices, or of dimensions.

    Raises:
        ValueError: no action that a planner can choose.
    """
    return ActionCodec(space).size
