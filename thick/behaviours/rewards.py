"""What a behaviour is taught to seek: rewards of imagined rollouts (:class:`thick.learners.parts.Reward`)."""

from __future__ import annotations

from torch import Tensor

from thick.models.beliefs import State
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
