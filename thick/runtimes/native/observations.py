"""Observations to embeddings and back in the native runtime, one pair for each kind (:mod:`thick.envs.kinds`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thick.envs.kinds import categories_of, kind_of, scale_of
from thick.runtimes.native.calls import batched, chained
from thick.runtimes.native.images import DecodeImage, EncodeImage
from thick.runtimes.native.weights import Weights
from thick.runtimes.parts import SINGLE, entries

if TYPE_CHECKING:
    import gymnasium


class Encoder:
    """All entries of an observation, encoded and concatenated as the trained encoder does.

    Args:
        weights: of the model.
        space: of observations.
    """

    def __init__(self, weights: Weights, space: gymnasium.Space) -> None:
        makers: dict[str, Any] = {
            "image": EncodeImage,
            "grid": EncodeClasses,
            "categories": EncodeClasses,
            "bits": EncodeVector,
            "vector": EncodeVector,
        }
        self._parts: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            key: makers[kind_of(entry)](weights, weights.entry("world.encoder.encoders", key), entry)
            for key, entry in entries(space).items()
        }

    def __call__(self, observation: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
        """Embeddings ``[B, E]``."""
        arrays = observation if isinstance(observation, Mapping) else {SINGLE: observation}
        made = [part(np.asarray(arrays[key])) for key, part in self._parts.items()]
        return made[0] if len(made) == 1 else np.concatenate(made, -1)


class Decoder:
    """One decoder for every entry of an observation.

    Args:
        weights: of the model.
        name: of the decoder: the fine or the coarse one.
        space: of observations.
    """

    def __init__(self, weights: Weights, name: str, space: gymnasium.Space) -> None:
        makers: dict[str, Any] = {
            "image": DecodeImage,
            "grid": DecodeGrid,
            "categories": DecodeCategories,
            "bits": DecodeBits,
            "vector": DecodeVector,
        }
        self._single = not hasattr(space, "spaces")
        self._parts: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
            key: makers[kind_of(entry)](weights, weights.entry(f"{name}.decoders", key), entry)
            for key, entry in entries(space).items()
        }

    def __call__(self, stoch: np.ndarray, rest: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """The most likely observations ``[*B, ...]`` of z ``[*B, S]`` and the rest of its feature."""
        lead, count = stoch.shape[:-1], batched(stoch.shape[:-1])
        z, x = stoch.reshape(count, stoch.shape[-1]), rest.reshape(count, rest.shape[-1])
        made = {key: part(z, x) for key, part in self._parts.items()}
        shaped = {key: array.reshape(*lead, *array.shape[1:]) for key, array in made.items()}
        return shaped[SINGLE] if self._single else shaped


class EncodeVector:
    """An MLP over the flattened numbers of a Box; wide bounds are scaled to about [-1, 1]."""

    def __init__(self, weights: Weights, name: str, space: gymnasium.Space) -> None:
        self._weights, self._size = weights, math.prod(space.shape or ())
        self._scale = _scale(space)
        self._chain = weights.chain(weights.layers(f"{name}.mlp"), linear=False)

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        """``[B, ...]`` -> ``[B, E]``"""
        rest = vector.reshape(len(vector), self._size).astype(np.float32, copy=False)
        if self._scale is not None:
            centre, half = self._scale
            rest = (rest - centre) / half
        return chained(self._chain, self._weights.widest, None, rest)


class EncodeClasses:
    """An MLP over one-hots of a grid, a Discrete or a MultiDiscrete; its first layer is a sum of rows of weights."""

    def __init__(self, weights: Weights, name: str, space: Any) -> None:
        self._weights, counts = weights, categories_of(space)
        size = math.prod(space.shape or ())
        self._counts = np.tile(np.asarray(counts, np.int64), size // len(counts))
        start = np.ravel(getattr(space, "start", 0)).astype(np.int64)
        self._start = start if start.any() else None
        self._beyond = self._counts.astype(np.uint64)
        self._chain = weights.classes_chain(weights.layers(f"{name}.mlp"), self._counts.tolist())

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """``[B, ...]`` of whole numbers -> ``[B, E]``"""
        seen = values.reshape(len(values), len(self._counts)).astype(np.int64)
        if self._start is not None:
            seen -= self._start
        if (seen.view(np.uint64) >= self._beyond).any():  # or below 0; would be read from another's weights
            raise ValueError("observation: a number is beyond its categories")
        rest = np.empty((len(values), 0), np.float32)
        return chained(self._chain, self._weights.widest, seen, rest)


class DecodeVector:
    """An MLP to the mean of the flattened numbers of a Box."""

    def __init__(self, weights: Weights, name: str, space: Any) -> None:
        self._weights, self._shape, self._dtype = weights, tuple(space.shape or ()), np.dtype(space.dtype)
        self._scale = _scale(space)
        self._low = self._high = None
        if self._dtype.kind != "f" and hasattr(space, "low"):
            # Not beyond what a float can say of an int64: rounding up would leave it.
            self._low, self._high = (
                np.clip(x.astype(np.float64), -(2.0**62), 2.0**62) for x in (space.low, space.high)
            )
        self._chain = weights.chain(weights.layers(f"{name}.mlp"), linear=True, z=True)

    def outputs(self, stoch: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """What leaves the network, ``[B, numbers]``."""
        return chained(self._chain, self._weights.widest, stoch, rest, self._weights.classes)

    def __call__(self, stoch: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """``[B, ...]`` in the space's dtype; whole numbers within their bounds."""
        y = self.outputs(stoch, rest)
        if self._scale is not None:
            centre, half = self._scale
            y = y * half + centre
        y = np.ascontiguousarray(y).reshape(len(y), *self._shape)
        if self._low is not None:
            y = np.clip(np.rint(np.nan_to_num(y.astype(np.float64))), self._low, self._high)
        return y.astype(self._dtype)


class DecodeBits(DecodeVector):
    """An MLP to one Bernoulli for each bit."""

    def __call__(self, stoch: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """The most likely bits ``[B, ...]`` in the space's dtype."""
        y = self.outputs(stoch, rest)
        return (y > 0).reshape(len(y), *self._shape).astype(self._dtype)


class DecodeCategories(DecodeVector):
    """An MLP to one categorical for each number of a Discrete or MultiDiscrete."""

    def __init__(self, weights: Weights, name: str, space: Any) -> None:
        super().__init__(weights, name, space)
        self._counts, self._start = categories_of(space), np.ravel(space.start).astype(np.int64)

    def __call__(self, stoch: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """The most likely numbers, int64 ``[B, ...]``."""
        y = self.outputs(stoch, rest)
        parts = np.split(y, np.cumsum(self._counts)[:-1], 1)
        return (np.stack([part.argmax(1) for part in parts], 1) + self._start).reshape(len(y), *self._shape)


class DecodeGrid(DecodeVector):
    """An MLP to one categorical for every channel of every cell."""

    def __init__(self, weights: Weights, name: str, space: Any) -> None:
        super().__init__(weights, name, space)
        self._counts = categories_of(space)

    def __call__(self, stoch: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """``[B, height, width, channels]`` uint8"""
        y = self.outputs(stoch, rest)
        logits = y.reshape(len(y), sum(self._counts), *self._shape[:2])
        planes = np.split(logits, np.cumsum(self._counts)[:-1], 1)
        return np.stack([plane.argmax(1) for plane in planes], -1).astype(np.uint8)


def _scale(space: Any) -> tuple[np.ndarray, np.ndarray] | None:
    found = scale_of(space) if kind_of(space) == "vector" else None
    return None if found is None else (found[0].reshape(-1), found[1].reshape(-1))
