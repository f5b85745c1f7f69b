"""A trained model in the native runtime: what planning and serving ask of a model, over numpy arrays, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from thick.arrays import NUMPY, Arrays
from thick.envs.actions import ActionCodec
from thick.models.beliefs import Belief
from thick.models.config import ModelConfig
from thick.runtimes.native import library as native
from thick.runtimes.native.high import NativeHighLevel
from thick.runtimes.native.low import NativeDynamics
from thick.runtimes.native.observations import Decoder, Encoder
from thick.runtimes.native.weights import Room, Weights
from thick.runtimes.parts import begun

if TYPE_CHECKING:
    import gymnasium

    from thick.planning.protocols import ManagerModel


class NativeModel:
    """Everything an agent needs of a trained model.

    A session's numbers are the same bits in any batch, with any instruction set (:mod:`thick.runtimes.native.library`).

    Args:
        tensors: the weights of an entry by name.
        config: the model's configuration.
        observation_space, action_space: its spaces.

    Raises:
        NativeUnavailable: the library is not there, or has not what the model acts by.
        ValueError: a size is beyond what the kernels can do.
    """

    arrays: Arrays = NUMPY
    manager: ManagerModel | None = None

    def __init__(
        self,
        tensors: Mapping[str, np.ndarray],
        config: ModelConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
    ) -> None:
        if config.behaviour == "director":
            raise native.NativeUnavailable(
                "this model acts by a manager and its worker, which the backend torch alone runs"
            )
        for there, what in (
            (config.unimix, f"draws z with a uniform share (unimix {config.unimix:g})"),
            (config.norm != "none", f"normalises hidden layers (norm {config.norm})"),
            (config.scalars != "normal", f"predicts rewards by distributions (scalars {config.scalars})"),
        ):
            if there:
                raise native.NativeUnavailable(f"this model {what}, which onnx and torch do")
        native.library()
        if min(config.head_layers, config.mlp_layers) < 1:
            raise ValueError("head_layers, mlp_layers: the native runtime needs at least one")

        rooms, made = (Room(), Room()), list[Weights]()

        def weights() -> Weights:
            made.append(Weights(tensors, stoch=config.stoch, classes=config.classes, rooms=rooms))
            return made[-1]

        actions = ActionCodec(action_space)
        self.exact = self.search = NativeDynamics(
            weights(), config, action=actions.size, continuous=not actions.discrete
        )
        self.high = NativeHighLevel(weights(), config, self.exact) if config.levels else None
        self._encoder = Encoder(weights(), observation_space)
        self._decoder = Decoder(weights(), "world.heads.decoder", observation_space)
        self._coarse_decoder = (
            None
            if config.dynamics == "rssm"
            else Decoder(weights(), "world.coarse_heads.decoder", observation_space)
        )
        for each in made:
            each.release()

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
        return self.exact.step(start.stoch, start.deter, start.context, done, uniforms, embedding)[0]

    def imagine(self, belief: Belief, action: np.ndarray, uniforms: np.ndarray | None = None) -> Belief:
        """One imagined step."""
        return self.exact.imagine(belief, action, uniforms)

    def features(self, belief: Belief) -> np.ndarray:
        """Fine feature."""
        return self.exact.features(belief)

    def encode(self, observation: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
        """Embeddings ``[B, E]`` of a batch of observations."""
        return self._encoder(observation)

    def decode(self, belief: Belief) -> np.ndarray | dict[str, np.ndarray]:
        """The most likely observations of beliefs ``[B, ...]``."""
        return self._decoder(belief.stoch, np.concatenate([belief.deter, belief.context], -1))

    def decode_coarse(self, stoch: np.ndarray, context: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """The most likely observations of coarse states ``[B, S]`` and ``[B, C]``."""
        assert self._coarse_decoder is not None, "the model has no coarse path"
        return self._coarse_decoder(stoch, context)
