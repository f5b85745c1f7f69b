"""Observations to embeddings in a frozen model: as fast as the trained encoders allow, the same bits in any batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.models.convolutions import ImageEncoder
from thick.models.encoders import Encoder, GridEncoder, as_entries
from thick.runtimes.torch.frozen import Chain, activation, affine, by_session, dense, elu
from thick.runtimes.torch.graphs import Captured
from thick.runtimes.torch.traced import Traced

PIECES = (16, 4, 1)
"""images that are convolved together, where that changes no bit"""


class FrozenEncoder:
    """All entries of an observation, encoded and concatenated as :class:`~thick.models.encoders.Encoder` does.

    Args:
        encoder: the trained encoder; on a CPU its weights are copied.
        device: where it runs.
    """

    def __init__(self, encoder: Encoder, device: torch.device) -> None:
        self._whole = Captured(self._together) if device.type != "cpu" else None
        self._encoder, self._keys = encoder, list(encoder.parts())
        self._parts: dict[str, FrozenImages | FrozenGrid | OneByOne] = {}
        for key, part in encoder.parts().items():
            if isinstance(part, ImageEncoder):
                self._parts[key] = FrozenImages(part)
            elif isinstance(part, GridEncoder) and part.mlp.layers:
                self._parts[key] = FrozenGrid(part)
            else:
                self._parts[key] = OneByOne(part)

    def __call__(self, observation: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Embeddings ``[B, E]`` of a batch of observations."""
        arrays = as_entries(observation)
        if self._whole is not None:
            return self._whole(*(arrays[key] for key in self._keys))[0]
        embeddings = [part(arrays[key]) for key, part in self._parts.items()]
        return embeddings[0] if len(embeddings) == 1 else torch.cat(embeddings, -1)

    def _together(self, *arrays: Tensor) -> tuple[Tensor]:
        """All entries at once, as training does."""
        return (self._encoder(dict(zip(self._keys, arrays, strict=True))),)


class FrozenImages:
    """The convolutions of an :class:`~thick.models.encoders.ImageEncoder` over several images at a time.

    A convolution treats each image of a batch alike, but nothing promises that it adds up in the same order
    whatever their number. The order depends on shapes, not on values: so the first call compares, and only those
    numbers of images are put together that give the same bits as one by one.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        self._prepare, self._dtype = encoder.form.prepare, getattr(torch, encoder.form.dtype)
        self._layers: list[tuple[Tensor, Tensor]] = []
        for layer in encoder.children():
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            # Channels last, as the images lie: else every call would rearrange the weights.
            weight = layer.weight.detach().clone(memory_format=torch.channels_last)
            self._layers.append((weight, layer.bias.detach().clone()))
        self._embedded = Traced(self._embed)
        self._pieces: tuple[int, ...] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """``[B, H, W, C]`` -> ``[B, E]``"""
        if self._pieces is None:  # here, since the number of threads is that of who calls
            self._pieces = self._alike(images.shape[1:])
        done: list[Tensor] = []
        begin, count = 0, images.shape[0]
        for piece in self._pieces:
            while count - begin >= piece:
                done += self._embedded(images[begin : begin + piece])
                begin += piece
        return done[0] if len(done) == 1 else torch.cat(done)

    def _embed(self, images: Tensor) -> tuple[Tensor]:
        x = self._prepare(images).permute(0, 3, 1, 2)
        for weight, bias in self._layers:
            x = elu(F.conv2d(x, weight, bias, stride=2))
        return (x.permute(0, 2, 3, 1).flatten(1),)  # height, width, channel

    def _alike(self, shape: torch.Size) -> tuple[int, ...]:
        """The sizes of pieces that give the same bits as single images, largest first."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (max(PIECES), *shape), dtype=torch.uint8, generator=generator).to(
            self._dtype
        )

        def embedded(piece: int) -> Tensor:
            return torch.cat([x for part in images.split(piece) for x in self._embedded(part)])

        single = embedded(1)
        return tuple(piece for piece in PIECES if piece == 1 or torch.equal(embedded(piece), single))


class FrozenGrid:
    """A :class:`~thick.models.encoders.GridEncoder` whose first layer sums the weights of the categories it sees,
    instead of multiplying one-hots."""

    def __init__(self, encoder: GridEncoder) -> None:
        first = dense(encoder.mlp, "dense0")
        self._table = first.weight.detach().t().contiguous()  # [cells · sum(categories), U]
        self._bias = affine(first, first.weight.dtype).bias
        self._activate, self._chain = (
            activation(encoder.mlp, 0),
            Chain(encoder.mlp, first.weight.dtype, skip=1),
        )
        self._categories = encoder.categories
        sizes = torch.tensor(encoder.categories, device=first.weight.device)
        cells = self._table.shape[0] // int(sizes.sum())
        within = sizes.cumsum(0) - sizes  # where a channel's categories begin in a cell
        starts = torch.arange(cells, device=sizes.device) * sizes.sum()
        self._offsets = (starts.unsqueeze(1) + within).flatten()  # [cells · channels]
        self._most = (sizes - 1).repeat(cells)
        self._embedded = Traced(self._embed)

    def __call__(self, grid: Tensor) -> Tensor:
        """``[B, height, width, channels]`` of small integers -> ``[B, E]``"""
        seen = grid.flatten(1).long()
        if bool((seen > self._most).any()):  # would be read from another cell's weights
            raise ValueError(f"grid: a channel has a value beyond its categories {self._categories}")
        return by_session(self._embedded, seen + self._offsets)[0]

    def _embed(self, index: Tensor) -> tuple[Tensor]:
        summed = F.embedding_bag(index.flatten(0, -2), self._table, mode="sum").unflatten(0, index.shape[:-1])
        return (self._chain(self._activate(summed + self._bias)),)


class OneByOne:
    """Any encoder, one observation at a time."""

    def __init__(self, encoder: nn.Module) -> None:
        self._encoder = encoder

    def __call__(self, arrays: Tensor) -> Tensor:
        """``[B, ...]`` -> ``[B, E]``"""
        return torch.cat([self._encoder(array) for array in arrays.split(1)])
