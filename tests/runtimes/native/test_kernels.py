"""Layers of any shape against a plain reading in numpy; `make native-check` runs this with sanitizers, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box

from thick.runtimes.native import library
from thick.runtimes.native.calls import chained
from thick.runtimes.native.images import DecodeImage, EncodeImage
from thick.runtimes.native.weights import Weights

rng = np.random.default_rng(0)
SIZES = [1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 97, 130]


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def layer(name: str, outputs: int, inputs: int) -> dict[str, np.ndarray]:
    return {f"{name}.weight": floats(outputs, inputs) / np.sqrt(inputs + 1), f"{name}.bias": floats(outputs)}


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


@pytest.mark.parametrize("seed", range(25))
def test_a_chain_of_any_shape_is_what_numpy_reads(seed: int) -> None:
    draw = np.random.default_rng(seed)
    inputs, hidden, outputs, groups, classes = (int(draw.choice(SIZES)) for _ in range(5))
    rows, z = int(draw.choice([0, 1, 2, 5, 11, 13, 40, 200])), bool(draw.integers(2))
    groups, classes = (groups % 9 + 1, classes % 9 + 1) if z else (0, 0)
    linear = bool(draw.integers(2))
    tensors = (
        layer("a", hidden, groups * classes + inputs)
        | layer("b", hidden, hidden)
        | layer("c", outputs, hidden)
    )
    weights = Weights(tensors, stoch=groups, classes=classes)
    chain = weights.chain(["a", "b", "c"], linear=linear, z=z)
    x, stoch = floats(rows, inputs), draw.integers(classes or 1, size=(rows, groups))
    stoch[: rows // 3] = -1  # the zero vector
    found = chained(chain, library.padded(weights.widest), stoch if z else None, x, classes)
    hots = (stoch[..., None] == np.arange(classes)).reshape(rows, groups * classes)
    y = np.concatenate([hots, x], 1).astype(np.float64)
    for index, name in enumerate("abc"):
        y = y @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
        y = y if index == 2 and linear else elu(y)
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5)
    for name in library.available():
        with library.using(name):
            again = chained(chain, library.padded(weights.widest), stoch if z else None, x, classes)
        np.testing.assert_array_equal(found, again)
    if rows > 3:  # in any batch
        part = chained(chain, library.padded(weights.widest), stoch[2:4] if z else None, x[2:4], classes)
        np.testing.assert_array_equal(found[2:4], part)


@pytest.mark.parametrize("threads", [2, 3])
def test_a_product_of_few_rows_is_divided_by_columns_and_stays_the_same(threads: int) -> None:
    weights = Weights(layer("a", 515, 401) | layer("b", 259, 515), stoch=0, classes=0)
    chain, x = weights.chain(["a", "b"], linear=True), floats(3, 401)
    wanted = chained(chain, library.padded(weights.widest), None, x)
    library.use_threads(threads)
    try:
        for _ in range(20):  # helpers that are awake, and helpers that are not yet
            found = chained(chain, library.padded(weights.widest), None, x)
            np.testing.assert_array_equal(found, wanted)
    finally:
        library.use_threads(1)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_batch_are_what_numpy_reads(channels: int) -> None:
    depth, groups, classes, rest = 2, 3, 4, 5
    tensors: dict[str, np.ndarray] = {}
    wide = [channels, *(depth * 2**power for power in range(4))]
    for index in range(4):
        tensors[f"e.conv{index}.weight"] = 0.3 * floats(wide[index + 1], wide[index], 4, 4)
        tensors[f"e.conv{index}.bias"] = floats(wide[index + 1])
    narrow = [32 * depth, 4 * depth, 2 * depth, depth, channels]
    tensors |= layer("d.in", 32 * depth, groups * classes + rest)
    for index, kernel in enumerate((5, 5, 6, 6)):
        tensors[f"d.deconv{index}.weight"] = 0.1 * floats(narrow[index], narrow[index + 1], kernel, kernel)
        tensors[f"d.deconv{index}.bias"] = 0.1 * floats(narrow[index + 1])
    space = Box(0, 255, (64, 64, channels), np.uint8)
    weights = Weights(tensors, stoch=groups, classes=classes)
    images = rng.integers(256, size=(3, 64, 64, channels)).astype(np.uint8)
    encode, decode = EncodeImage(weights, "e", space), DecodeImage(weights, "d", space)
    x = images.astype(np.float64) / 255 - 0.5
    for index in range(4):
        x = convolved(x, tensors[f"e.conv{index}.weight"], tensors[f"e.conv{index}.bias"])
    found = encode(images)
    np.testing.assert_allclose(found, x.reshape(3, -1), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[1:2], encode(images[1:2]))
    stoch, more = rng.integers(classes, size=(3, groups)), floats(3, rest)
    hots = (stoch[..., None] == np.arange(classes)).reshape(3, -1)
    y = np.concatenate([hots, more], 1) @ tensors["d.in.weight"].T.astype(np.float64) + tensors["d.in.bias"]
    y = y.reshape(3, 1, 1, -1)
    for index in range(4):
        y = spread(y, tensors[f"d.deconv{index}.weight"], tensors[f"d.deconv{index}.bias"])
        y = elu(y) if index < 3 else y
    made = decode(stoch, more)
    assert np.abs(made - np.clip(np.rint((y + 0.5) * 255), 0, 255)).max() <= 1
    np.testing.assert_array_equal(made[2:], decode(stoch[2:], more[2:]))


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    side = (x.shape[1] - 4) // 2 + 1
    out = np.zeros((len(x), side, side, len(weight)))
    for i in range(side):
        for j in range(side):
            patch = x[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
            out[:, i, j] = np.einsum("bhwc,ochw->bo", patch, weight) + bias
    return elu(out)


def spread(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    kernel = weight.shape[-1]
    side = 2 * x.shape[1] + kernel - 2
    out = np.zeros((len(x), side, side, weight.shape[1])) + bias
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            out[:, 2 * i : 2 * i + kernel, 2 * j : 2 * j + kernel] += np.einsum(
                "bc,cohw->bhwo", x[:, i, j], weight
            )
    return out


def test_a_wrong_shape_or_class_is_refused_before_it_reaches_the_kernels() -> None:
    weights = Weights(layer("a", 4, 3 * 2 + 5), stoch=3, classes=2)
    chain = weights.chain(["a"], linear=True, z=True)
    good: dict[str, Any] = {"lead": 16, "stoch": np.zeros((2, 3), int), "rest": floats(2, 5), "classes": 2}
    assert chained(chain, **good).shape == (2, 4)
    for wrong in (
        {"rest": floats(2, 6)},
        {"stoch": np.zeros((1, 3), int)},
        {"stoch": np.full((2, 3), 2)},
        {"stoch": np.full((2, 3), -2)},
        {"stoch": floats(2, 3)},
    ):
        with pytest.raises(ValueError, match="expected"):
            chained(chain, **(good | wrong))


def test_an_unknown_instruction_set_is_named() -> None:
    with pytest.raises(library.NativeUnavailable, match="expected one of"), library.using("sse9"):
        pass
