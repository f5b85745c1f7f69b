"""The high level in the ONNX runtime: jumps, and what is received with them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thick.models.beliefs import Landing
from thick.models.config import ModelConfig
from thick.runtimes.onnx.low import modes
from thick.runtimes.onnx.sessions import Step


class OnnxHighLevel:
    """The high level, the coarse path and the coarse heads, over numpy arrays.

    Args:
        graphs: of the model, by name.
        config: its sizes.
    """

    def __init__(self, graphs: Mapping[str, Step], config: ModelConfig) -> None:
        self._graphs, self._stoch = graphs, config.stoch
        self.actions, self.gamma = config.levels[0].actions, config.discount

    def prior(self, stoch: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Logits of p(A | s), ``[*B, G]``."""
        return self._ask("prior", stoch=stoch, context=context)["logits"]

    def segment_return(self, stoch: np.ndarray, context: np.ndarray, high_action: np.ndarray) -> np.ndarray:
        """R of a high-level action ``[*B]``, without the rest of the jump."""
        return self._ask("segment", stoch=stoch, context=context, high_action=high_action)["segment"]

    def jump(
        self,
        stoch: np.ndarray,
        context: np.ndarray,
        high_action: np.ndarray,
        uniforms: np.ndarray | None = None,
    ) -> Landing:
        """From now to just after the next change (maths: one jump of the high level).

        Args:
            stoch: ``[*B, S]``.
            context: ``[*B, C]``.
            high_action: ``[*B]`` int64.
            uniforms: ``[*B, 2·S]`` to sample both states; None takes their modes.
        """
        drawn = modes(*stoch.shape[:-1], 2 * self._stoch) if uniforms is None else uniforms
        made = self._ask("jump", stoch=stoch, context=context, high_action=high_action, uniforms=drawn)
        return Landing(
            made["logits_before"],
            made["stoch_before"],
            made["action"],
            made["stoch_after"],
            made["context_after"],
            made["gates_after"],
            made["elapsed"],
            made["segment"],
            *received(made),
        )

    def outcome(self, stoch: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reward and probability that the episode goes on, from the coarse heads; ``[*B]`` (1 without such a head)."""
        return received(self._ask("coarse_outcome", stoch=stoch, context=context))

    @property
    def has_critic(self) -> bool:
        """Whether the checkpoint has a coarse critic."""
        return "coarse_value" in self._graphs

    def value(self, stoch: np.ndarray, context: np.ndarray) -> np.ndarray:
        """The coarse critic's value, ``[*B]``."""
        return self._ask("coarse_value", stoch=stoch, context=context)["value"]

    def _ask(self, name: str, **given: np.ndarray) -> dict[str, np.ndarray]:
        assert name in self._graphs, f"the checkpoint has no {name}"
        return self._graphs[name](*given["stoch"].shape[:-1], **given)


def received(made: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Reward, and the probability that the episode goes on (1 without such a head)."""
    reward = made["reward"]
    return reward, made["continuation"] if "continuation" in made else np.ones_like(reward)
