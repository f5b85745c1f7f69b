"""Convolutions of the native runtime: each patch of pixels is a row of a product, so an image's bits are its own."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from thick.runtimes.native import library as native
from thick.runtimes.native.calls import chained, numbers
from thick.runtimes.native.weights import Weights
from thick.runtimes.parts import areas, between

SIDE = 64
"""pixels a side of what the convolutions read and write (:mod:`thick.models.images`)"""
KERNEL = 4
"""of the encoder's convolutions; their stride is 2"""


class EncodeImage:
    """Four convolutions, kernel 4, stride 2, no padding, over an image of 64×64; others are averaged over areas."""

    def __init__(self, weights: Weights, name: str, space: Any) -> None:
        self._weights, self._shape = weights, tuple(space.shape)  # the weights keep what the records point to
        self._low, self._high = np.float32(space.low.flat[0]), np.float32(space.high.flat[0])
        self._resize = (
            None if self._shape[:2] == (SIDE, SIDE) else Resize(areas, self._shape[:2], (SIDE, SIDE))
        )
        self._layers: list[tuple[Any, int]] = []
        while weights.has(f"{name}.conv{len(self._layers)}"):
            layer = f"{name}.conv{len(self._layers)}"
            kernel = weights.weight(layer)  # [out, in, height, width]
            patches = kernel.transpose(0, 2, 3, 1).reshape(len(kernel), -1)
            self._layers.append((weights.pack([patches], [weights.bias(layer)]), kernel.shape[1]))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """``[B, height, width, channels]`` in the space's own range -> ``[B, E]``"""
        if images.shape[1:] != self._shape:
            raise ValueError(f"image: expected {list(self._shape)}, got {list(images.shape[1:])}")
        x = (images.astype(np.float32) - self._low) / (self._high - self._low) - np.float32(0.5)
        if self._resize is not None:
            x = self._resize(x)
        for dense, channels in self._layers:
            size = x.shape[1]
            side = (size - KERNEL) // 2 + 1
            y = np.empty((len(x), side, side, native.padded(dense.outputs)), np.float32)
            job = native.ConvolveRows(
                ctypes.addressof(dense), KERNEL, size, channels, native.address(x), native.address(y)
            )
            native.run(
                native.CONVOLVE, job, len(x) * side * side, native.padded(dense.inputs + native.COLUMNS)
            )
            x = np.ascontiguousarray(y[..., : dense.outputs])
        return x.reshape(len(x), math.prod(x.shape[1:]))


class DecodeImage:
    """A dense layer and four transposed convolutions, stride 2: a product makes what every pixel contributes to its
    neighbourhood, and a fixed order adds it up."""

    def __init__(self, weights: Weights, name: str, space: Any) -> None:
        self._weights, self._dtype = weights, np.dtype(space.dtype)
        self._low, self._high = np.float32(space.low.flat[0]), np.float32(space.high.flat[0])
        size = tuple(space.shape[:2])
        self._resize = None if size == (SIDE, SIDE) else Resize(between, (SIDE, SIDE), size)
        self._first = weights.chain([f"{name}.in"], linear=True, z=True)
        self._layers: list[tuple[Any, int, int, np.ndarray]] = []
        while weights.has(f"{name}.deconv{len(self._layers)}"):
            layer = f"{name}.deconv{len(self._layers)}"
            kernel = weights.weight(layer)  # [in, out, height, width]
            spread = kernel.transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0])  # [height·width·out, in]
            chain = native.Chain(groups=0, layers=1, linear=1)
            chain.layer[0] = weights.pack([spread], [np.zeros(len(spread), np.float32)])
            bias = np.ascontiguousarray(weights.bias(layer))
            self._layers.append((chain, kernel.shape[2], kernel.shape[1], bias))

    def __call__(self, stoch: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """``[B, height, width, channels]`` in the space's own range"""
        x = chained(self._first, self._weights.widest, stoch, rest, self._weights.classes)
        x = np.ascontiguousarray(x).reshape(len(x), 1, 1, x.shape[-1])
        for index, layer in enumerate(self._layers):
            x = _spread(x, *layer, elu=index < len(self._layers) - 1)
        if self._resize is not None:
            x = self._resize(x)
        x = (x + np.float32(0.5)) * (self._high - self._low) + self._low
        if self._dtype == np.uint8:
            x = np.rint(np.nan_to_num(x))
        return np.clip(x, self._low, self._high).astype(self._dtype)


def _spread(
    x: np.ndarray, chain: Any, kernel: int, channels: int, bias: np.ndarray, *, elu: bool
) -> np.ndarray:
    count, size = x.shape[:2]
    pixels = numbers(
        x.reshape(count * size * size, x.shape[-1]), (count * size * size, chain.layer[0].inputs)
    )
    lead = native.padded(chain.layer[0].outputs)
    spread = np.empty((len(pixels), lead), np.float32)
    job = native.ChainRows(ctypes.addressof(chain), 0, native.address(pixels), native.address(spread))
    native.run(native.CHAIN, job, len(pixels), native.COLUMNS)
    side = 2 * size + kernel - 2
    y = np.empty((count, side, side, channels), np.float32)
    unfold = native.UnfoldRows(
        kernel, size, channels, lead, int(elu), *(native.address(part) for part in (spread, bias, y))
    )
    native.run(native.UNFOLD, unfold, count, native.COLUMNS)
    return y


class Resize:
    """Images of another size, one axis after the other, each a product with a fixed matrix.

    Args:
        matrix: ``(from, to)`` pixels of an axis -> ``[to, from]``.
        before, after: height and width.
    """

    def __init__(self, matrix: Any, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        self._weights = Weights({}, stoch=0, classes=0)
        self._axes = []
        for source, target in zip(before, after, strict=True):
            chain = native.Chain(groups=0, layers=1, linear=1)
            chain.layer[0] = self._weights.pack([matrix(source, target)], [np.zeros(target, np.float32)])
            self._axes.append(chain)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """``[B, H, W, C]`` float32"""
        for axis, chain in enumerate(self._axes, 1):
            turned = np.moveaxis(images, axis, -1)
            images = np.moveaxis(chained(chain, native.COLUMNS, None, turned), -1, axis)
        return np.ascontiguousarray(images)
