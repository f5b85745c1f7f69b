"""What a behaviour is taught to seek: rewards of imagined rollouts (:class:`thick.learners.parts.Reward`)."""

from __future__ import annotations

from torch import Tensor

from thick.models.beliefs import State
from thick.models.classes import dense
from thick.models.ensemble import Ensemble
from thick.models.world_model import WorldModel


class TaskReward:
    """The reward of the task, as the world model's fine head predicts it.

    Args:
        world: whose head is asked.
    """

    def __init__(self, world: WorldModel) -> None:
        self._world = world

    def __call__(self, states: State, actions: Tensor) -> Tensor:
        entered = State(*(part[1:] for part in states))
        return self._world.heads.reward(self._world.dynamics.features(entered)).squeeze(-1).float()


class Disagreement:
    """How much an ensemble disagrees about what an action leads to (Plan2Explore).

    It is about z of the state that is entered, computed from the state before and the action: where z is random by
    itself, all members learn its mean, and agree.

    Args:
        world: whose features the ensemble reads.
        ensemble: the predictors.
        scale: weight.
    """

    def __init__(self, world: WorldModel, ensemble: Ensemble, scale: float = 1.0) -> None:
        self._world, self._ensemble, self._scale = world, ensemble, scale

    def __call__(self, states: State, actions: Tensor) -> Tensor:
        left = State(*(part[:-1] for part in states))
        return self._scale * self._ensemble.disagreement(dense(self._world.dynamics.features(left)), actions)
