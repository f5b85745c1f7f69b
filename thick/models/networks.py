"""Everything that a checkpoint holds: a world model, the levels above it, and the behaviour that acts in it."""

from __future__ import annotations

from typing import cast

import gymnasium
from torch import nn

from thick.models.actor import Actor
from thick.models.config import ModelConfig
from thick.models.goals import DirectorNetworks
from thick.models.hierarchy.level import HighLevel
from thick.models.layers import ScalarHead
from thick.models.world_model import WorldModel, action_size


class Behaviour(nn.Module):
    """An actor and the critics that evaluate it (Dreamer; THICK Dreamer's coarse critic too).

    Args:
        world: the world model whose features they read; it is not kept.
        config: sizes.
        coarse: whether there is a coarse critic, for V_long.
    """

    def __init__(self, world: WorldModel, config: ModelConfig, *, coarse: bool) -> None:
        super().__init__()
        sizes = config.head
        action = action_size(world.action_space)
        self.actor = Actor(world.fine_size, action, continuous=world.continuous, **sizes)
        self.critic = ScalarHead(world.fine_size, form=config.scalars, **sizes)
        self.coarse_critic = ScalarHead(world.coarse_size, form=config.scalars, **sizes) if coarse else None


class AgentNetworks(nn.Module):
    """What an agent needs to observe, imagine, search and act: the networks that are exported.

    Args:
        config: what there is, and its sizes.
        observation_space: Box, or Dict of Boxes.
        action_space: Discrete or Box.
    """

    def __init__(
        self, config: ModelConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space
    ) -> None:
        super().__init__()
        self.config = config
        self.observation_space, self.action_space = observation_space, action_space
        self.world = WorldModel(config, observation_space, action_space)
        self.levels = nn.ModuleList(
            HighLevel(
                stoch=config.stoch,
                classes=config.classes,
                context=self.world.dynamics.context,
                action=action_size(action_space),
                continuous=self.world.continuous,
                actions=level.actions,
                hidden=level.hidden,
                head_units=level.head_units,
            )
            for level in config.levels
        )
        self.behaviour: Behaviour | None = None
        if config.behaviour == "actor_critic":
            self.behaviour = Behaviour(self.world, config, coarse=bool(config.levels))
        self.director: DirectorNetworks | None = None
        if config.behaviour == "director":
            self.director = DirectorNetworks(self.world, config)

    @property
    def hierarchy(self) -> tuple[HighLevel, ...]:
        """The levels, the lowest first."""
        return tuple(cast("HighLevel", level) for level in self.levels)
