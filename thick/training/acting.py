"""The agent under training as a policy of the collector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from thick import pytrees
from thick.data.collect import encode_actions, stack_observations
from thick.envs.actions import ActionCodec
from thick.planning.settings import PlannerSettings, session_key
from thick.training.checkpoint import restore_rng, rng_state
from thick.training.config import TrainConfig
from thick.training.learner import Learner


class AgentPolicy:
    """Acts with the model as it is now; its copy of the weights follows every ``refresh`` steps.

    Exploration: Gaussian noise on planned continuous actions, a random action now and then in place of planned discrete
    ones. An actor (``method: policy``) is sampled, and nothing is added: it was taught how much to explore.

    Args:
        learner: whose model is used.
        config: planner settings and exploration are in ``config.data``.
        refresh: steps between two copies of the weights.

    Raises:
        ValueError: ``data.planner`` does not fit the model or the task.
    """

    def __init__(self, learner: Learner, config: TrainConfig, *, refresh: int = 25) -> None:
        self._config, self._refresh = config, refresh
        self._rng = np.random.default_rng([config.seed, 77])
        self._copy = learner.acting_copy(config.planner)
        self.settings = self._settings()
        self._state: Any = None
        self._steps = 0
        missing = self._copy.missing
        self.note = None if missing is None else f"torch acts, which takes longer: {missing}"
        """what to say of it when a run begins, if anything"""

    def __call__(
        self, envs: Sequence[gymnasium.Env], observations: Sequence[Any], is_first: np.ndarray
    ) -> list[Any]:
        space = envs[0].action_space
        if self._steps % self._refresh == 0:
            self._copy.renew()
        agent = self._copy.agent
        xp = agent.model.arrays
        if self._state is None:
            self._state = agent.initial(len(envs))
        keys = xp.array([session_key(self._config.seed * 1000 + i, self._steps) for i in range(len(envs))])
        if any(observation is None for observation in observations):
            observations = _filled(observations)
        arrays = stack_observations(observations, envs[0].observation_space)
        observation = {key.removeprefix("observation/"): xp.array(value) for key, value in arrays.items()}
        with xp.no_grad():
            state = agent.observe(self._state, observation, is_first=xp.array(is_first), keys=keys)
            output = agent.act(state, self.settings, keys=keys)
        actions = self._explore(xp.numpy(output.action).astype(np.float32), space)
        self._state = output.state._replace(previous_action=xp.array(encode_actions(actions, space)))
        self._steps += 1
        return actions

    # -- what a checkpoint holds of it ---------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """The acting copy's weights, and what the agent carries from step to step in every stream."""
        weights = {f"weights.{name}": value for name, value in self._copy.tensors().items()}
        carried = pytrees.walk(self._state) if self._state is not None else ()
        return weights | {f"state.{name}": torch.as_tensor(value) for name, value in carried}

    def state(self) -> dict[str, Any]:
        """The rest, as JSON."""
        return {"steps": self._steps, "rng": rng_state(self._rng), "runtime": self._copy.runtime}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any], streams: int) -> list[str]:
        """The reverse of :meth:`tensors` and :meth:`state`; returns a sentence where it cannot act as it would have."""
        weights = {
            name.removeprefix("weights."): x for name, x in tensors.items() if name.startswith("weights.")
        }
        notes = []
        if weights.keys() == self._copy.tensors().keys():
            self._copy.take(weights)
        else:
            self._copy.renew()
            notes.append(
                "the checkpoint is of an earlier release: until the acting copy is next renewed, it acts with weights "
                "that are a few updates newer than they would have been"
            )
        now = self._copy.runtime
        before = state.get("runtime", now)  # earlier releases did not say
        if before != now:
            notes.append(
                f"{before} chose the actions before this checkpoint, {now} does from here on: the last bits of what it "
                "computes are others, so the run differs from one that was not interrupted"
            )
        self._steps = int(state["steps"])
        restore_rng(self._rng, state["rng"])
        self._state = None
        if any(name.startswith("state.") for name in tensors):
            xp, initial = self._copy.agent.model.arrays, self._copy.agent.initial(streams)
            names = iter([name for name, _ in pytrees.walk(initial)])
            self._state = pytrees.map_arrays(
                lambda x: xp.as_like(xp.array(tensors[f"state.{next(names)}"]), x), initial
            )
        return notes

    # -- choosing ------------------------------------------------------------------------------------------------

    def _settings(self) -> PlannerSettings:
        given = self._config.data.planner
        try:
            settings = self._copy.agent.settings(given)
        except ValueError as error:
            raise ValueError(f"data.{error}") from error
        if settings.method == "policy" and "temperature" not in given:
            settings = settings.updated({"temperature": 1.0})
        return settings

    def _explore(self, planned: np.ndarray, space: gymnasium.Space) -> list[Any]:
        """Planned actions ``[N, A]`` with noise, in the environment's form."""
        amount, codec = self._config.data.exploration, ActionCodec(space)
        actions = []
        for row in planned:
            if self.settings.method == "policy":
                actions += codec.decode(row[None])
            elif not codec.discrete:
                noisy = row + amount * self._rng.standard_normal(codec.size)
                actions += codec.decode(noisy.clip(-1, 1)[None])
            elif self._rng.random() < amount:
                actions.append(codec.sample(self._rng))
            else:
                actions += codec.decode(row[None])
        return actions


def _filled(observations: Sequence[Any]) -> list[Any]:
    """Streams that have not begun show somebody else's observation; their action is not used."""
    known = next(observation for observation in observations if observation is not None)
    return [known if observation is None else observation for observation in observations]
