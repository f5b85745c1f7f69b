"""Observations to embeddings and back, one pair for each kind: image, vector, symbolic grid, dict of these."""

from __future__ import annotations

import math
from collections.abc import Mapping

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.envs.spaces import kind_of
from thick.models.distributions import normal_log_prob
from thick.models.layers import MLP, Dense

SINGLE = "observation"
"""The key of an observation that is a single array rather than a dict."""


def entries(space: gymnasium.Space) -> dict[str, gymnasium.spaces.Box]:
    """The arrays of an observation space by name; a lone Box is called ``"observation"``.

    Raises:
        TypeError: the space holds something that no encoder reads.
    """
    spaces = dict(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else {SINGLE: space}
    boxes = {}
    for key, box in spaces.items():
        if not isinstance(box, gymnasium.spaces.Box):
            raise TypeError(f"{key}: expected a Box, got {box}; flatten or wrap the environment")
        boxes[key] = box
    return boxes


def as_entries(observation: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same for an observation: always a dict of tensors."""
    return dict(observation) if isinstance(observation, Mapping) else {SINGLE: observation}


class ImageEncoder(nn.Module):
    """Four convolutions, kernel 4, stride 2, valid, ELU: 64×64×3 uint8 -> ``[..., 32·depth]`` (DreamerV1)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        channels = [3, *(depth * 2**power for power in range(4))]
        for index in range(4):
            self.add_module(f"conv{index}", nn.Conv2d(channels[index], channels[index + 1], 4, stride=2))
        self.size = 4 * channels[-1]
        self.apply(_glorot)

    def forward(self, image: Tensor) -> Tensor:
        """``[..., 64, 64, 3]`` with values 0..255."""
        x = preprocess_image(image).flatten(0, -4).permute(0, 3, 1, 2)
        for index in range(4):
            x = F.elu(self.get_submodule(f"conv{index}")(x))
        # Channels last before flattening: the embedding's order is height, width, channel.
        return x.permute(0, 2, 3, 1).reshape(*image.shape[:-3], self.size)


class ImageDecoder(nn.Module):
    """Dense to 32·depth, then deconvolutions with kernels 5, 5, 6, 6 and stride 2; N(mean, 1)."""

    def __init__(self, inputs: int, depth: int) -> None:
        super().__init__()
        self.add_module("in", Dense(inputs, 32 * depth))
        channels = [32 * depth, depth * 4, depth * 2, depth, 3]
        for index, kernel in enumerate((5, 5, 6, 6)):
            self.add_module(
                f"deconv{index}", nn.ConvTranspose2d(channels[index], channels[index + 1], kernel, stride=2)
            )
        self.apply(_glorot)

    def forward(self, feature: Tensor) -> Tensor:
        """Mean of the image, ``[..., 64, 64, 3]`` in the preprocessed range [-0.5, 0.5]."""
        x = self.get_submodule("in")(feature).reshape(-1, self.get_submodule("in").out_features, 1, 1)
        for index in range(4):
            x = self.get_submodule(f"deconv{index}")(x)
            x = F.elu(x) if index < 3 else x
        return x.permute(0, 2, 3, 1).reshape(*feature.shape[:-1], 64, 64, 3)

    def log_prob(self, output: Tensor, image: Tensor) -> Tensor:
        """``[...]``, summed over pixels."""
        return normal_log_prob(preprocess_image(image), output).sum((-3, -2, -1))

    def observation(self, output: Tensor) -> Tensor:
        """The most likely observation: uint8 ``[..., 64, 64, 3]``."""
        return ((output + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


class VectorEncoder(nn.Module):
    """MLP over a flattened float array."""

    def __init__(self, shape: tuple[int, ...], units: int, layers: int) -> None:
        super().__init__()
        self.dimensions = len(shape)
        self.mlp = MLP(math.prod(shape), units, layers)
        self.size = units

    def forward(self, vector: Tensor) -> Tensor:
        return self.mlp(_flatten(vector, self.dimensions))


class VectorDecoder(nn.Module):
    """MLP to the mean of N(mean, 1) over a flattened float array."""

    def __init__(self, inputs: int, shape: tuple[int, ...], units: int, layers: int) -> None:
        super().__init__()
        self.shape = shape
        self.mlp = MLP(inputs, units, layers, math.prod(shape))

    def forward(self, feature: Tensor) -> Tensor:
        return self.mlp(feature)

    def log_prob(self, output: Tensor, vector: Tensor) -> Tensor:
        return normal_log_prob(_flatten(vector, len(self.shape)), output).sum(-1)

    def observation(self, output: Tensor) -> Tensor:
        return output.reshape(*output.shape[:-1], *self.shape).float()


class GridEncoder(nn.Module):
    """One-hot cells (object, colour, state as MiniGrid gives them) through an MLP."""

    def __init__(self, shape: tuple[int, ...], categories: tuple[int, ...], units: int, layers: int) -> None:
        super().__init__()
        self.categories = categories
        self.mlp = MLP(shape[0] * shape[1] * sum(categories), units, layers)
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
        self, inputs: int, shape: tuple[int, ...], categories: tuple[int, ...], units: int, layers: int
    ) -> None:
        super().__init__()
        self.height, self.width = shape[:2]
        self.categories = categories
        self.mlp = MLP(inputs, units, layers, self.height * self.width * sum(categories))

    def forward(self, feature: Tensor) -> Tensor:
        """Logits ``[..., sum(categories), height, width]``: categories first, so that the softmax over a few
        classes runs along whole rows of cells (ten times faster than over a last dimension of 4 to 11)."""
        return self.mlp(feature).unflatten(-1, (sum(self.categories), self.height, self.width))

    def log_prob(self, output: Tensor, grid: Tensor) -> Tensor:
        total = 0.0
        for channel, logits in enumerate(output.float().split(self.categories, -3)):
            index = grid[..., channel].long().unsqueeze(-3)  # [..., 1, height, width]
            total = total + logits.log_softmax(-3).gather(-3, index).sum((-3, -2, -1))
        return total  # type: ignore[return-value]

    def observation(self, output: Tensor) -> Tensor:
        """The most likely grid: uint8 ``[..., height, width, channels]``."""
        planes = [logits.argmax(-3) for logits in output.split(self.categories, -3)]
        return torch.stack(planes, -1).to(torch.uint8)


class Encoder(nn.Module):
    """All entries of an observation, encoded and concatenated to ``[..., E]`` in the order of their keys."""

    def __init__(self, space: gymnasium.Space, *, cnn_depth: int, units: int, layers: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict()
        for key, box in sorted(entries(space).items()):
            kind = kind_of(box)
            if kind == "image":
                self.encoders[key] = ImageEncoder(cnn_depth)
            elif kind == "grid":
                self.encoders[key] = GridEncoder(box.shape, grid_categories(box), units, layers)
            else:
                self.encoders[key] = VectorEncoder(box.shape, units, layers)
        self.size: int = sum(encoder.size for encoder in self.encoders.values())  # type: ignore[misc]

    def forward(self, observation: Tensor | Mapping[str, Tensor]) -> Tensor:
        arrays = as_entries(observation)
        return torch.cat([encoder(arrays[key]) for key, encoder in self.encoders.items()], -1)


class Decoder(nn.Module):
    """One decoder for every entry of an observation."""

    def __init__(
        self, inputs: int, space: gymnasium.Space, *, cnn_depth: int, units: int, layers: int
    ) -> None:
        super().__init__()
        self.single = not isinstance(space, gymnasium.spaces.Dict)
        self.decoders = nn.ModuleDict()
        for key, box in sorted(entries(space).items()):
            kind = kind_of(box)
            if kind == "image":
                self.decoders[key] = ImageDecoder(inputs, cnn_depth)
            elif kind == "grid":
                self.decoders[key] = GridDecoder(inputs, box.shape, grid_categories(box), units, layers)
            else:
                self.decoders[key] = VectorDecoder(inputs, box.shape, units, layers)

    def forward(self, feature: Tensor) -> dict[str, Tensor]:
        return {key: decoder(feature) for key, decoder in self.decoders.items()}

    def log_prob(self, outputs: dict[str, Tensor], observation: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Log probability of an observation, ``[...]``, summed over its entries."""
        arrays = as_entries(observation)
        return sum(  # type: ignore[return-value]
            decoder.log_prob(outputs[key], arrays[key])  # type: ignore[operator]
            for key, decoder in self.decoders.items()
        )

    def observation(self, feature: Tensor) -> Tensor | dict[str, Tensor]:
        """The most likely observation in the form of the environment's own: an array or a dict of arrays."""
        outputs = self(feature)
        decoded = {
            key: decoder.observation(outputs[key])  # type: ignore[operator]
            for key, decoder in self.decoders.items()
        }
        return decoded[SINGLE] if self.single else decoded


def preprocess_image(image: Tensor) -> Tensor:
    """``x / 255 - 0.5``."""
    return image.float() / 255.0 - 0.5


def grid_categories(box: gymnasium.spaces.Box) -> tuple[int, ...]:
    """Number of values of each channel of a symbolic grid: the bound of the space plus one."""
    return tuple(int(np.max(box.high[..., channel])) + 1 for channel in range(box.shape[-1]))


def _flatten(array: Tensor, dimensions: int) -> Tensor:
    array = array.float()
    return array.unsqueeze(-1) if dimensions == 0 else array.flatten(-dimensions)


def _glorot(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
