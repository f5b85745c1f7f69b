"""Observations to embeddings and back as operations of a graph, one pair for each kind (:mod:`thick.envs.kinds`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from thick.envs.kinds import categories_of, kind_of, scale_of
from thick.runtimes.onnx.graph import Graph
from thick.runtimes.onnx.layers import dense, mlp
from thick.runtimes.onnx.names import value_name
from thick.runtimes.parts import areas, between, entries, entry_name

SIDE = 64
"""pixels a side of what the convolutions read and write (:mod:`thick.models.images`)"""


def encode(g: Graph, space: Any) -> str:
    """The embedding ``[batch, E]`` of an observation, whose arrays become inputs."""
    encoders = {
        "image": _encode_image,
        "grid": _encode_grid,
        "categories": _encode_categories,
        "bits": _encode_vector,
        "vector": _encode_vector,
    }
    made = []
    for key, entry in entries(space).items():
        x = g.input(value_name(key), *(entry.shape or ()), dtype=entry.dtype)
        name = entry_name(g.tensors, "world.encoder.encoders", key)
        made.append(encoders[kind_of(entry)](g, name, entry, x))
    return g.concat(*made)


def decode(g: Graph, heads: str, space: Any, feature: str) -> None:
    """The most likely observation of a feature; its arrays become outputs."""
    decoders = {
        "image": _decode_image,
        "grid": _decode_grid,
        "categories": _decode_categories,
        "bits": _decode_bits,
        "vector": _decode_vector,
    }
    for key, entry in entries(space).items():
        name = entry_name(g.tensors, f"{heads}.decoder.decoders", key)
        decoded = decoders[kind_of(entry)](g, name, entry, feature)
        g.output(value_name(key), g.cast(decoded, entry.dtype), *(entry.shape or ()), dtype=entry.dtype)


# -- vectors and bits ------------------------------------------------------------------------------------------------


def _encode_vector(g: Graph, name: str, space: Any, x: str) -> str:
    x, found = g.reshape(g.cast(x), math.prod(space.shape or ())), _scale(space)
    if found is not None:
        centre, half = found
        x = g("Div", g("Sub", x, g.constant(centre, np.float32)), g.constant(half, np.float32))
    return mlp(g, f"{name}.mlp", x)


def _decode_vector(g: Graph, name: str, space: Any, feature: str) -> str:
    y, found = mlp(g, f"{name}.mlp", feature), _scale(space)
    if found is not None:
        centre, half = found
        y = g("Add", g("Mul", y, g.constant(half, np.float32)), g.constant(centre, np.float32))
    y = g.reshape(y, *(space.shape or ()))
    if np.dtype(space.dtype).kind != "f":
        # Not beyond what a float can say of an int64: rounding up would leave it.
        low, high = (np.clip(end.astype(np.float64), -(2.0**62), 2.0**62) for end in (space.low, space.high))
        y = g("Round", g.cast(y, np.float64))
        y = g("Min", g("Max", y, g.constant(low)), g.constant(high))
    return y


def _decode_bits(g: Graph, name: str, space: Any, feature: str) -> str:
    return g.reshape(g("Greater", mlp(g, f"{name}.mlp", feature), g.number(0)), *(space.shape or ()))


def _scale(space: Any) -> tuple[np.ndarray, np.ndarray] | None:
    found = scale_of(space) if kind_of(space) == "vector" else None
    return None if found is None else (found[0].reshape(-1), found[1].reshape(-1))


# -- categories ------------------------------------------------------------------------------------------------------


def _encode_categories(g: Graph, name: str, space: Any, x: str) -> str:
    counts, start = categories_of(space), np.ravel(space.start).astype(np.int64)
    x = g("Sub", g.reshape(g.cast(x, np.int64), len(counts)), g.constant(start))
    return mlp(
        g, f"{name}.mlp", *(_hot(g, part, n) for part, n in zip(_columns(g, x, counts), counts, strict=True))
    )


def _decode_categories(g: Graph, name: str, space: Any, feature: str) -> str:
    counts, start = categories_of(space), np.ravel(space.start).astype(np.int64)
    logits = g.split(mlp(g, f"{name}.mlp", feature), counts)
    found = g.concat(*(g("ArgMax", part, axis=-1, keepdims=1) for part in logits))
    return g.reshape(g("Add", found, g.constant(start)), *(space.shape or ()))


def _encode_grid(g: Graph, name: str, space: Any, x: str) -> str:
    counts = categories_of(space)
    planes = _columns(g, g.cast(x, np.int64), counts)
    hot = g.concat(*(_hot(g, plane, n) for plane, n in zip(planes, counts, strict=True)))
    return mlp(g, f"{name}.mlp", g.reshape(hot, math.prod(space.shape[:2]) * sum(counts)))


def _decode_grid(g: Graph, name: str, space: Any, feature: str) -> str:
    counts = categories_of(space)
    logits = g.reshape(mlp(g, f"{name}.mlp", feature), sum(counts), *space.shape[:2])
    planes = [g("ArgMax", part, axis=1, keepdims=0) for part in g.split(logits, counts, axis=1)]
    return g.concat(*(g("Unsqueeze", plane, g.whole(-1)) for plane in planes))


def _columns(g: Graph, x: str, counts: Any) -> list[str]:
    return g.split(x, [1] * len(counts))


def _hot(g: Graph, column: str, count: int) -> str:
    """``[..., 1]`` -> ``[..., count]``"""
    return g.cast(g("Equal", column, g.whole(*range(count))))


# -- images ----------------------------------------------------------------------------------------------------------


def _encode_image(g: Graph, name: str, space: Any, x: str) -> str:
    low, high = (float(end.flat[0]) for end in (space.low, space.high))
    x = g("Div", g("Sub", g.cast(x), g.number(low)), g.number(high - low))
    x = _resized(g, g("Sub", x, g.number(0.5)), areas, space.shape[:2], (SIDE, SIDE))
    x, count = g("Transpose", x, perm=[0, 3, 1, 2]), 0
    while f"{name}.conv{count}.weight" in g.tensors:
        layer = f"{name}.conv{count}"
        x = g("Elu", g("Conv", x, g.weight(f"{layer}.weight"), g.weight(f"{layer}.bias"), strides=[2, 2]))
        count += 1
    channels = g.tensors[f"{name}.conv{count - 1}.weight"].shape[0]
    return g.reshape(g("Transpose", x, perm=[0, 2, 3, 1]), 4 * channels)  # height, width, channel


def _decode_image(g: Graph, name: str, space: Any, feature: str) -> str:
    x, count = dense(g, f"{name}.in", feature), 0
    x = g.reshape(x, g.tensors[f"{name}.in.weight"].shape[0], 1, 1)
    while f"{name}.deconv{count}.weight" in g.tensors:
        layer = f"{name}.deconv{count}"
        x = x if count == 0 else g("Elu", x)
        x = g("ConvTranspose", x, g.weight(f"{layer}.weight"), g.weight(f"{layer}.bias"), strides=[2, 2])
        count += 1
    x = _resized(g, g("Transpose", x, perm=[0, 2, 3, 1]), between, (SIDE, SIDE), space.shape[:2])
    low, high = (float(end.flat[0]) for end in (space.low, space.high))
    x = g("Add", g("Mul", g("Add", x, g.number(0.5)), g.number(high - low)), g.number(low))
    if np.dtype(space.dtype) == np.uint8:
        x = g("Round", x)
    return g("Clip", x, g.number(low), g.number(high))


def _resized(g: Graph, x: str, matrix: Any, before: tuple[int, ...], after: tuple[int, ...]) -> str:
    """Images ``[batch, H, W, C]`` of another size, one axis after the other, each a product with a fixed matrix."""
    if tuple(before) == tuple(after):
        return x
    channels_first = g("Transpose", x, perm=[0, 3, 1, 2])
    rows = g("MatMul", g.constant(matrix(before[0], after[0]), np.float32), channels_first)
    columns = g("MatMul", rows, g.constant(matrix(before[1], after[1]).T, np.float32))
    return g("Transpose", columns, perm=[0, 2, 3, 1])
