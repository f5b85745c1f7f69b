"""A world model: encoder, dynamics and heads."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.envs.actions import ActionCodec
from thick.models.batch import Batch, Start
from thick.models.beliefs import State, Trajectory
from thick.models.config import ModelConfig
from thick.models.dynamics.crssm import CRSSM
from thick.models.dynamics.rssm import RSSM
from thick.models.encoders import Decoder, Encoder
from thick.models.layers import ScalarHead, ScalarMLP


class Heads(nn.Module):
    """Decoder, reward and discount on one feature; the C-RSSM has a fine and a coarse set."""

    def __init__(self, inputs: int, space: gymnasium.Space, config: ModelConfig) -> None:
        super().__init__()
        self.decoder = Decoder(inputs, space, **config.body)
        sizes = config.head
        self.reward = ScalarHead(inputs, form=config.scalars, **sizes)
        self.discount = ScalarMLP(inputs, outputs=1, **sizes) if config.discount_head else None


class WorldModel(nn.Module):
    """What is learned of an environment, step by step: an encoder, a dynamics and heads on its states.

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
        self.encoder = Encoder(observation_space, **config.body)
        cell: dict[str, Any] = {
            "stoch": config.stoch,
            "classes": config.classes,
            "deter": config.deter,
            "hidden": config.hidden,
            "action": action,
            "embed": self.encoder.size,
            "posterior": config.posterior,
            "unimix": config.unimix,
        }
        flat_model = config.dynamics == "rssm"
        self.dynamics = (
            RSSM(**cell)
            if flat_model
            else CRSSM(
                context=config.context,
                change_threshold=config.change_threshold,
                gates=config.gates,
                **cell,
            )
        )
        flat = config.stoch * config.classes
        self.fine_size = flat + config.deter + self.dynamics.context
        self.coarse_size = flat + self.dynamics.context
        self.heads = Heads(self.fine_size, observation_space, config)
        self.coarse_heads = None if flat_model else Heads(self.coarse_size, observation_space, config)

    def observe(self, batch: Batch) -> Trajectory:
        """Encode and filter a batch; gates are noisy in training."""
        return self.dynamics.observe(
            self.encoder(batch.observation),
            batch.action,
            batch.is_first,
            None if batch.start is None else self._state(batch.start),
            gate_noise=self.config.gate_noise if self.training else 0.0,
        )

    def _state(self, start: Start) -> State:
        config = self.config
        context, deter = start.memory.split((self.dynamics.context, config.deter), -1)
        stoch = F.one_hot(start.stoch, config.classes).to(deter.dtype)
        return State(stoch, torch.zeros_like(stoch), deter, context, torch.zeros_like(context))

    def target_reward(self, reward: Tensor) -> Tensor:
        """What the reward heads are trained to predict."""
        return torch.tanh(reward) if self.config.clip_rewards == "tanh" else reward


def action_size(space: gymnasium.Space) -> int:
    """Size of an action inside the model: the number of choices, or of dimensions.

    Raises:
        ValueError: no action that a planner can choose.
    """
    return ActionCodec(space).size
