"""Observations to embeddings and back, one pair for each kind of array (:mod:`thick.envs.kinds`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.envs.kinds import categories_of, kind_of, kinds_of, scale_of
from thick.models.convolutions import ImageDecoder, ImageEncoder
from thick.models.distributions import bernoulli_log_prob, normal_log_prob
from thick.models.functions import log_prob_of_cells
from thick.models.images import ImageForm
from thick.models.layers import MLP

SINGLE = "observation"
"""The key of an observation that is a single array rather than a dict."""


def entries(space: gymnasium.Space) -> dict[str, gymnasium.Space]:
    """The arrays of an observation space by name; a lone one is called ``"observation"``.

    Raises:
        ValueError: the space holds something that no encoder reads.
    """
    kinds_of(space)
    return dict(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else {SINGLE: space}


def as_entries(observation: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same for an observation: always a dict of tensors."""
    return dict(observation) if isinstance(observation, Mapping) else {SINGLE: observation}


class Scale:
    """Numbers of a Box with wide bounds to about [-1, 1] and back (:func:`thick.envs.kinds.scale_of`).

    Not part of the weights: it follows from the space.
    """

    def __init__(self, space: gymnasium.Space) -> None:
        found = scale_of(space)
        self._numpy = None if found is None else tuple(part.reshape(-1) for part in found)
        self._tensors: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def inside(self, x: Tensor) -> Tensor:
        """``[..., size]`` as the model sees it."""
        if self._numpy is None:
            return x
        centre, half = self._on(x.device)
        return (x - centre) / half

    def outside(self, x: Tensor) -> Tensor:
        """The reverse."""
        if self._numpy is None:
            return x
        centre, half = self._on(x.device)
        return x * half + centre

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        assert self._numpy is not None
        if device not in self._tensors:
            centre, half = (torch.as_tensor(part, device=device) for part in self._numpy)
            self._tensors[device] = (centre, half)
        return self._tensors[device]


class VectorEncoder(nn.Module):
    """MLP over the flattened numbers of a Box."""

    def __init__(self, space: gymnasium.spaces.Box, units: int, layers: int, norm: str = "none") -> None:
        super().__init__()
        self.dimensions = len(space.shape)
        self.scale = Scale(space)
        self.mlp = MLP(math.prod(space.shape), units, layers, norm=norm)
        self.size = units

    def forward(self, vector: Tensor) -> Tensor:
        return self.mlp(self.scale.inside(_flatten(vector, self.dimensions)))


class VectorDecoder(nn.Module):
    """MLP to the mean of N(mean, 1) over the flattened numbers of a Box."""

    def __init__(
        self, inputs: int, space: gymnasium.spaces.Box, units: int, layers: int, norm: str = "none"
    ) -> None:
        super().__init__()
        self.shape = space.shape
        self.scale = Scale(space)
        self._dtype: torch.dtype = getattr(torch, np.dtype(space.dtype).name)
        whole = np.dtype(space.dtype).kind != "f"
        # Not beyond what a float can say of an int64: rounding up would leave it.
        ends = (np.clip(bound.astype(np.float64), -(2.0**62), 2.0**62) for bound in (space.low, space.high))
        self._ends = tuple(ends) if whole else None
        self.mlp = MLP(inputs, units, layers, math.prod(space.shape), norm=norm)

    def forward(self, feature: Tensor) -> Tensor:
        return self.mlp(feature)

    def log_prob(self, output: Tensor, vector: Tensor) -> Tensor:
        target = self.scale.inside(_flatten(vector, len(self.shape)))
        return normal_log_prob(target, output).sum(-1)

    def observation(self, output: Tensor) -> Tensor:
        """The mean in the space's dtype, ``[..., *shape]``; whole numbers within their bounds."""
        vector = self.scale.outside(output.float()).reshape((*output.shape[:-1], *self.shape))
        if self._ends is not None:
            low, high = (torch.as_tensor(end, device=output.device) for end in self._ends)
            vector = vector.double().round().clamp(low, high)
        return vector.to(self._dtype)


class BitsEncoder(VectorEncoder):
    """MLP over flattened bits."""


class BitsDecoder(nn.Module):
    """MLP to one Bernoulli for each bit."""

    def __init__(
        self, inputs: int, space: gymnasium.spaces.Box, units: int, layers: int, norm: str = "none"
    ) -> None:
        super().__init__()
        self.shape = space.shape
        self._dtype: torch.dtype = getattr(torch, np.dtype(space.dtype).name)
        self.mlp = MLP(inputs, units, layers, math.prod(space.shape), norm=norm)

    def forward(self, feature: Tensor) -> Tensor:
        return self.mlp(feature)

    def log_prob(self, output: Tensor, bits: Tensor) -> Tensor:
        return bernoulli_log_prob(output.float(), _flatten(bits, len(self.shape))).sum(-1)

    def observation(self, output: Tensor) -> Tensor:
        """The most likely bits in the space's dtype, ``[..., *shape]``."""
        return (output > 0).reshape((*output.shape[:-1], *self.shape)).to(self._dtype)


class CategoriesEncoder(nn.Module):
    """One-hots of a Discrete or MultiDiscrete through an MLP."""

    def __init__(self, space: gymnasium.Space, units: int, layers: int, norm: str = "none") -> None:
        super().__init__()
        self.categories, self.starts, self.shape = _categories(space)
        self.mlp = MLP(sum(self.categories), units, layers, norm=norm)
        self.size = units

    def forward(self, value: Tensor) -> Tensor:
        """``[..., *shape]`` of whole numbers."""
        columns = _columns(value, len(self.shape))
        hot = [
            F.one_hot(columns[..., i].long() - start, count)
            for i, (count, start) in enumerate(zip(self.categories, self.starts, strict=True))
        ]
        return self.mlp(torch.cat(hot, -1).float())  # type: ignore[no-any-return]


class CategoriesDecoder(nn.Module):
    """MLP to one categorical for each number."""

    def __init__(
        self, inputs: int, space: gymnasium.Space, units: int, layers: int, norm: str = "none"
    ) -> None:
        super().__init__()
        self.categories, self.starts, self.shape = _categories(space)
        self.mlp = MLP(inputs, units, layers, sum(self.categories), norm=norm)

    def forward(self, feature: Tensor) -> Tensor:
        """Logits ``[..., sum(categories)]``."""
        return self.mlp(feature)

    def log_prob(self, output: Tensor, value: Tensor) -> Tensor:
        columns = _columns(value, len(self.shape))
        total = 0.0
        for i, logits in enumerate(output.float().split(self.categories, -1)):
            index = columns[..., i : i + 1].long() - self.starts[i]
            total = total + logits.log_softmax(-1).gather(-1, index).squeeze(-1)
        return total  # type: ignore[return-value]

    def observation(self, output: Tensor) -> Tensor:
        """The most likely numbers: int64 ``[..., *shape]``."""
        parts = output.split(self.categories, -1)
        columns = [logits.argmax(-1) + start for logits, start in zip(parts, self.starts, strict=True)]
        return torch.stack(columns, -1).reshape((*output.shape[:-1], *self.shape))


class GridEncoder(nn.Module):
    """One-hot cells (object, colour, state as MiniGrid gives them) through an MLP."""

    def __init__(
        self, shape: tuple[int, ...], categories: tuple[int, ...], units: int, layers: int, norm: str = "none"
    ) -> None:
        super().__init__()
        self.categories = categories
        self.mlp = MLP(shape[0] * shape[1] * sum(categories), units, layers, norm=norm)
        self.size = units

    def forward(self, grid: Tensor) -> Tensor:
        """``[..., height, width, channels]`` of small integers."""
        planes = [
            F.one_hot(grid[..., channel].long(), count) for channel, count in enumerate(self.categories)
        ]
        return self.mlp(torch.cat(planes, -1).flatten(-3).float())  # type: ignore[no-any-return]


class GridDecoder(nn.Module):
    """MLP to one categorical for every channel of every cell."""

    def __init__(
        self,
        inputs: int,
        shape: tuple[int, ...],
        categories: tuple[int, ...],
        units: int,
        layers: int,
        norm: str = "none",
    ) -> None:
        super().__init__()
        self.height, self.width = shape[:2]
        self.categories = categories
        self.mlp = MLP(inputs, units, layers, self.height * self.width * sum(categories), norm=norm)

    def forward(self, feature: Tensor) -> Tensor:
        """Logits ``[..., sum(categories), height, width]``: categories first, so that the softmax over a few
        classes runs along whole rows of cells (ten times faster than over a last dimension of 4 to 11)."""
        return self.mlp(feature).unflatten(-1, (sum(self.categories), self.height, self.width))

    def log_prob(self, output: Tensor, grid: Tensor) -> Tensor:
        return log_prob_of_cells(output, grid, self.categories)

    def observation(self, output: Tensor) -> Tensor:
        """The most likely grid: uint8 ``[..., height, width, channels]``."""
        planes = [logits.argmax(-3) for logits in output.split(self.categories, -3)]
        return torch.stack(planes, -1).to(torch.uint8)


class Encoder(nn.Module):
    """All entries of an observation, encoded and concatenated to ``[..., E]`` in the order of their keys."""

    def __init__(
        self, space: gymnasium.Space, *, cnn_depth: int, units: int, layers: int, norm: str = "none"
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict()
        self.keys: dict[str, str] = {}
        """name of the module -> key of the entry"""
        for key, entry in sorted(entries(space).items()):
            name = _module_name(key)
            self.keys[name], self.encoders[name] = key, _encoder(entry, cnn_depth, units, layers, norm)
        self.size: int = sum(encoder.size for encoder in self.encoders.values())  # type: ignore[misc]

    def parts(self) -> dict[str, nn.Module]:
        """The encoder of every entry, by its key."""
        return {self.keys[name]: encoder for name, encoder in self.encoders.items()}

    def forward(self, observation: Tensor | Mapping[str, Tensor]) -> Tensor:
        arrays = as_entries(observation)
        return torch.cat([encoder(arrays[self.keys[name]]) for name, encoder in self.encoders.items()], -1)


class Decoder(nn.Module):
    """One decoder for every entry of an observation."""

    def __init__(
        self,
        inputs: int,
        space: gymnasium.Space,
        *,
        cnn_depth: int,
        units: int,
        layers: int,
        norm: str = "none",
    ) -> None:
        super().__init__()
        self.single = not isinstance(space, gymnasium.spaces.Dict)
        self.decoders = nn.ModuleDict()
        self._keys: dict[str, str] = {}
        for key, entry in sorted(entries(space).items()):
            name = _module_name(key)
            self._keys[name] = key
            self.decoders[name] = _decoder(inputs, entry, cnn_depth, units, layers, norm)

    def parts(self) -> dict[str, nn.Module]:
        """The decoder of every entry, by its key."""
        return {self._keys[name]: decoder for name, decoder in self.decoders.items()}

    def forward(self, feature: Tensor) -> dict[str, Tensor]:
        return {key: decoder(feature) for key, decoder in self.parts().items()}

    def log_prob(self, outputs: dict[str, Tensor], observation: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Log probability of an observation, ``[...]``, summed over its entries."""
        arrays = as_entries(observation)
        return sum(  # type: ignore[return-value]
            decoder.log_prob(outputs[key], arrays[key])  # type: ignore[operator]
            for key, decoder in self.parts().items()
        )

    def observation(self, feature: Tensor) -> Tensor | dict[str, Tensor]:
        """The most likely observation in the form of the environment's own: an array or a dict of arrays."""
        outputs = self(feature)
        decoded = {
            key: decoder.observation(outputs[key])  # type: ignore[operator]
            for key, decoder in self.parts().items()
        }
        return decoded[SINGLE] if self.single else decoded


def _encoder(space: Any, cnn_depth: int, units: int, layers: int, norm: str) -> nn.Module:
    kind = kind_of(space)
    if kind == "image":
        return ImageEncoder(cnn_depth, ImageForm.of(space))
    if kind == "grid":
        return GridEncoder(space.shape, categories_of(space), units, layers, norm)
    kinds = {"bits": BitsEncoder, "categories": CategoriesEncoder, "vector": VectorEncoder}
    return kinds[kind](space, units, layers, norm)


def _decoder(inputs: int, space: Any, cnn_depth: int, units: int, layers: int, norm: str) -> nn.Module:
    kind = kind_of(space)
    if kind == "image":
        return ImageDecoder(inputs, cnn_depth, ImageForm.of(space))
    if kind == "grid":
        return GridDecoder(inputs, space.shape, categories_of(space), units, layers, norm)
    kinds = {"bits": BitsDecoder, "categories": CategoriesDecoder, "vector": VectorDecoder}
    return kinds[kind](inputs, space, units, layers, norm)


def _module_name(key: str) -> str:
    """A name that torch allows for a module: no dot, not empty, none of ModuleDict's own attributes."""
    name = key.replace("%", "%25").replace(".", "%2E")
    return f"%{name}" if not name or hasattr(nn.ModuleDict(), name) else name


def _categories(space: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Numbers of categories, first values and shape of a Discrete or MultiDiscrete."""
    starts = tuple(int(start) for start in np.ravel(space.start))
    return categories_of(space), starts, tuple(space.shape or ())


def _columns(value: Tensor, dimensions: int) -> Tensor:
    """``[..., *shape]`` -> ``[..., size]``"""
    return value.unsqueeze(-1) if dimensions == 0 else value.flatten(-dimensions)


def _flatten(array: Tensor, dimensions: int) -> Tensor:
    return _columns(array.float(), dimensions)
