"""The agent under training as a policy of the collector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch

from thick.agent import Agent
from thick.data.collect import encode_actions, sample_action, stack_observations
from thick.planning.settings import session_key
from thick.training.config import TrainConfig
from thick.training.learner import Learner


class AgentPolicy:
    """Plans with the model as it is now; the planner's copy of the weights follows every ``refresh`` steps.

    Exploration: Gaussian noise on continuous actions, a random action now and then on discrete ones.

    Args:
        learner: whose model is used.
        config: planner settings and exploration are in ``config.data``.
        refresh: steps between two copies of the weights.
    """

    def __init__(self, learner: Learner, config: TrainConfig, *, refresh: int = 25) -> None:
        self._learner, self._config, self._refresh = learner, config, refresh
        self._rng = np.random.default_rng([config.seed, 77])
        self._agent: Agent | None = None
        self._state: Any = None
        self._steps = 0

    def __call__(
        self, envs: Sequence[gymnasium.Env], observations: Sequence[Any], is_first: np.ndarray
    ) -> list[Any]:
        space = envs[0].action_space
        if self._steps % self._refresh == 0 or self._agent is None:
            self._agent = self._learner.agent(self._config.planner)
            self._settings = self._agent.settings(self._config.data.planner)
        if self._state is None:
            self._state = self._agent.initial(len(envs))
        keys = torch.tensor(
            [session_key(self._config.seed * 1000 + i, self._steps) for i in range(len(envs))]
        )
        if any(observation is None for observation in observations):
            observations = _filled(observations)
        arrays = stack_observations(observations, envs[0].observation_space)
        observation = {
            key.removeprefix("observation/"): torch.from_numpy(value) for key, value in arrays.items()
        }
        with torch.no_grad():
            state = self._agent.observe(
                self._state,
                observation,
                is_first=torch.as_tensor(is_first),
                executed_action=None,
                executed=None,
                keys=keys,
            )
            planning = self._agent.plan(state, self._settings, keys=keys)
            while not planning.done:
                planning.step()
            output = planning.result()
        actions = [self._explore(action, space) for action in self._agent.decode_action(output.action)]
        encoded = torch.from_numpy(encode_actions(actions, space))
        self._state = output.state._replace(previous_action=encoded)
        self._steps += 1
        return actions

    def _explore(self, action: Any, space: gymnasium.Space) -> Any:
        amount = self._config.data.exploration
        if isinstance(space, gymnasium.spaces.Discrete):
            return sample_action(space, self._rng) if self._rng.random() < amount else action
        assert isinstance(space, gymnasium.spaces.Box)
        half = (space.high - space.low) / 2
        noisy = np.asarray(action) + amount * half * self._rng.standard_normal(space.shape)
        return np.clip(noisy, space.low, space.high).astype(space.dtype)


def _filled(observations: Sequence[Any]) -> list[Any]:
    """Streams that have not begun show somebody else's observation; their action is not used."""
    known = next(observation for observation in observations if observation is not None)
    return [known if observation is None else observation for observation in observations]
