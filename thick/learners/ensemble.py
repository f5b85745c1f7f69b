"""The parts of Plan2Explore: an ensemble of predictors, and an actor and critic that seek their disagreement."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from thick.behaviours.actor_critic import ActorCritic
from thick.behaviours.config import BehaviourConfig, EnsembleConfig
from thick.learners.parts import Group, Losses, Reward, Shared
from thick.models.beliefs import State
from thick.models.ensemble import Ensemble
from thick.models.networks import Behaviour
from thick.models.world_model import WorldModel, action_size


class EnsemblePart(nn.Module):
    """Each member learns to predict z of the next step from feature and action (Plan2Explore, equation 3).

    Neither what is read nor what is predicted has gradient: the world model does not become easier to predict.

    Args:
        world: whose states are read and predicted.
        config: sizes and learning rate.
    """

    name = "ensemble"
    start = 0

    def __init__(self, world: WorldModel, config: EnsembleConfig) -> None:
        super().__init__()
        self._lr = config.lr
        # In a tuple, so that it is not registered as a submodule: the model keeps its weights.
        self._world = (world,)
        self.ensemble = Ensemble(
            world.fine_size + action_size(world.action_space),
            world.config.stoch * world.config.classes,
            members=config.members,
            units=config.units,
            layers=config.layers,
        )

    def groups(self) -> dict[str, Group]:
        """All members: their gradients do not mix."""
        return {"ensemble": Group(list(self.ensemble.parameters()), self._lr)}

    def scales(self, update: int) -> Mapping[str, float]:
        """One term."""
        return {"prediction": 1.0}

    def losses(self, shared: Shared) -> Losses:
        """Squared error, summed over the dimensions of z and averaged over members and steps within an episode."""
        (world,) = self._world
        posterior, batch = shared.posterior, shared.batch
        feature = world.dynamics.features(State(*(part[:, :-1] for part in posterior)))
        # action[t + 1] leads from t to t + 1, unless another episode begins there.
        predicted = self.ensemble(feature, batch.action[:, 1:])  # [E, B, T-1, S·K]
        inside = 1 - batch.is_first[:, 1:].float()
        error = (predicted - posterior.stoch[:, 1:].flatten(-2).float()).square().sum(-1) / 2
        prediction = (error.mean(0) * inside).sum() / inside.sum().clamp_min(1)
        spread = predicted.detach().std(0, correction=0).mean(-1)
        disagreement = (spread * inside).sum() / inside.sum().clamp_min(1)
        return Losses({"prediction": prediction}, {"disagreement": disagreement})

    def updated(self, update: int) -> None:
        """Nothing follows an update."""


class Explorer(ActorCritic):
    """An actor and a critic that serve exploration alone: they are kept here, and are no part of what is exported.

    Args:
        world: where it imagines.
        reward: what it seeks.
        config: how.
    """

    def __init__(self, world: WorldModel, reward: Reward, config: BehaviourConfig) -> None:
        networks = Behaviour(world, world.config, coarse=False)
        super().__init__("explorer", world, networks, reward, config)
        self.networks = networks
