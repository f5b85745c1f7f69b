"""Director's manager and worker in the ONNX runtime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thick.models.beliefs import Belief
from thick.models.config import ModelConfig
from thick.runtimes.onnx.low import acted, state
from thick.runtimes.onnx.sessions import Step


class OnnxManager:
    """Choosing goals and acting towards them, over numpy arrays.

    Args:
        graphs: of the model, by name.
        config: its sizes.
    """

    def __init__(self, graphs: Mapping[str, Step], config: ModelConfig) -> None:
        self._graphs = graphs
        self.every, self.draws = config.goals.every, config.goals.codes
        self.size = config.deter + (0 if config.dynamics == "rssm" else config.context)

    def goal(self, belief: Belief, uniforms: np.ndarray) -> np.ndarray:
        """Goals ``[*B, D]`` that the manager draws, by uniform numbers ``[*B, draws]``."""
        return self._ask("goal", belief, uniforms=uniforms)["goal_after"]

    def policy(self, belief: Belief, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The worker on the way to goals ``[*B, D]``: logits ``[*B, A]`` and None, or mean and standard deviation."""
        return acted(self._ask("worker", belief, goal=goal))

    def value(self, belief: Belief) -> np.ndarray:
        """Expected return ``[*B]``, discounted goal by goal: the manager's critic knows the mean reward of a step."""
        return np.float32(self.every) * self._ask("manager_value", belief)["value"]

    def _ask(self, name: str, belief: Belief, **given: np.ndarray) -> dict[str, np.ndarray]:
        return self._graphs[name](*belief.stoch.shape[:-1], **state(belief), **given)
