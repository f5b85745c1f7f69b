"""A trained model in the ONNX runtime: what planning and serving ask of a model, over numpy arrays, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from thick.arrays import NUMPY, Arrays
from thick.envs.kinds import categories_of, kind_of
from thick.models.beliefs import Belief
from thick.models.config import ModelConfig
from thick.runtimes.onnx.goals import OnnxManager
from thick.runtimes.onnx.high import OnnxHighLevel
from thick.runtimes.onnx.low import OnnxDynamics, modes, state
from thick.runtimes.onnx.names import graph_names, value_name
from thick.runtimes.onnx.sessions import Step
from thick.runtimes.parts import SINGLE, begun, entries

if TYPE_CHECKING:
    import gymnasium


class OnnxModel:
    """Everything an agent needs of a trained model.

    A session's numbers are the same bits in any batch and with any number of threads, on one machine
    (:mod:`thick.runtimes.onnx.sessions`).

    Args:
        graphs: the files of its graphs, by name.
        tensors: its weights, by name.
        config: its configuration.
        observation_space: its space.

    Raises:
        KeyError: a graph, or a weight that one refers to, is missing.
        Exception: of ONNX Runtime, where a graph cannot run.
    """

    arrays: Arrays = NUMPY

    def __init__(
        self,
        graphs: Mapping[str, bytes],
        tensors: Mapping[str, np.ndarray],
        config: ModelConfig,
        observation_space: gymnasium.Space,
    ) -> None:
        if missing := [name for name in graph_names(config) if name not in graphs]:
            raise KeyError(f"no graph {', '.join(missing)}")
        held = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            for name, array in tensors.items()
        }
        self._graphs = {name: Step(content, held) for name, content in graphs.items()}
        self._entries = entries(observation_space)
        self._single = not hasattr(observation_space, "spaces")
        self.exact = self.search = OnnxDynamics(self._graphs, config)
        self.high = OnnxHighLevel(self._graphs, config) if config.levels else None
        self.manager = OnnxManager(self._graphs, config) if config.behaviour == "director" else None

    @property
    def draws(self) -> int:
        """Uniform numbers of one imagined step."""
        return self.exact.draws

    def initial(self, batch: int) -> Belief:
        """The belief before anything was seen."""
        return self.exact.initial(batch)

    def begin(self, nothing: np.ndarray, uniforms: np.ndarray | None = None) -> Belief:
        """The belief at the first step of an episode, before its observation: z from the prior, or its mode."""
        return self.exact.imagine(self.initial(len(nothing)), nothing, uniforms)

    def observe(
        self,
        belief: Belief,
        action: np.ndarray,
        embedding: np.ndarray,
        is_first: np.ndarray,
        uniforms: np.ndarray | None = None,
    ) -> Belief:
        """The belief after ``action`` ``[B, A]`` led to an observation with ``embedding`` ``[B, E]``.

        Args:
            is_first: ``[B]`` bool; belief and action are zeroed there.
            uniforms: ``[B, S]`` to sample z; None takes the mode of the posterior.
        """
        start, done = begun(belief, action, is_first)
        made = self._graphs["observe"](
            len(is_first),
            **state(start),
            action=done,
            embedding=embedding,
            uniforms=modes(*belief.stoch.shape) if uniforms is None else uniforms,
        )
        return self.exact.belief(made)

    def imagine(self, belief: Belief, action: np.ndarray, uniforms: np.ndarray | None = None) -> Belief:
        """One imagined step."""
        return self.exact.imagine(belief, action, uniforms)

    def features(self, belief: Belief) -> np.ndarray:
        """Fine feature."""
        return self.exact.features(belief)

    def encode(self, observation: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
        """Embeddings ``[B, E]`` of a batch of observations.

        Raises:
            ValueError: a number is beyond its categories.
        """
        arrays = observation if isinstance(observation, Mapping) else {SINGLE: observation}
        given = {}
        for key, entry in self._entries.items():
            array = np.asarray(arrays[key]).astype(entry.dtype, copy=False)
            _check_categories(array, entry)
            given[value_name(key)] = array
        return self._graphs["encode"](len(array), **given)["embedding"]

    def decode(self, belief: Belief) -> np.ndarray | dict[str, np.ndarray]:
        """The most likely observations of beliefs ``[B, ...]``."""
        return self._shown(self._graphs["decode"](*belief.stoch.shape[:-1], **state(belief)))

    def decode_coarse(self, stoch: np.ndarray, context: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """The most likely observations of coarse states ``[B, S]`` and ``[B, C]``."""
        assert "coarse_decode" in self._graphs, "the model has no coarse path"
        return self._shown(self._graphs["coarse_decode"](*stoch.shape[:-1], stoch=stoch, context=context))

    def _shown(self, made: Mapping[str, np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
        if self._single:
            return made[value_name(SINGLE)]
        return {key: made[value_name(key)] for key in self._entries}


def _check_categories(array: np.ndarray, space: Any) -> None:
    """Numbers beyond their categories would count for nothing."""
    if kind_of(space) not in ("grid", "categories"):
        return
    seen = array.reshape(len(array), -1, len(categories_of(space))) - np.ravel(getattr(space, "start", 0))
    if ((seen < 0) | (seen >= np.asarray(categories_of(space)))).any():
        raise ValueError("observation: a number is beyond its categories")
