"""What an observation is, read from its space: how it is encoded, decoded and drawn. Free of gymnasium and torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from thick.spaces import Box, Dict, Discrete, MultiDiscrete, Space, as_space

if TYPE_CHECKING:
    import gymnasium

    AnySpace = Space | gymnasium.Space[Any] | Mapping[str, Any]

Array = np.ndarray[Any, Any]
Kind = Literal["image", "grid", "vector", "categories", "bits"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SMALLEST_IMAGE = 16
"""pixels a side; smaller arrays are vectors"""
MOST_CHANNELS = 32
"""of an image: eight stacked RGBA frames"""
LARGEST_VECTOR = 32_768
"""numbers of a vector; each is a column of a dense layer"""
MOST_CATEGORIES = 4_096
"""of a Discrete, or of all entries of a MultiDiscrete together; each is a column of a dense layer"""
LARGEST_GRID = 262_144
"""cells times categories"""
FAR = 1e6
"""bounds beyond it say nothing about the scale of a number"""


def kind_of(space: AnySpace) -> Kind:
    """The kind of one array's space.

    - "image": Box uint8 [H, W, C], 0 to 255, or Box of floats with one finite low and high and C of 1, 3 or 4;
      H and W at least 16, C at most 32 (stacked frames are channels).
    - "grid": Box uint8 [W, H, C] with low 0 and one high below 255 for each channel (categories = high + 1).
    - "categories": Discrete or MultiDiscrete.
    - "bits": Box of bool, or of integers from 0 to 1.
    - "vector": any other Box of numbers, flattened.

    Raises:
        ValueError: no observation that a model here can read; the message says what to do.
    """
    known = as_space(space, path="observation space")
    if isinstance(known, Discrete):
        return _categories(known.n)
    if isinstance(known, MultiDiscrete):
        return _categories(sum(known.nvec))
    if isinstance(known, Dict):
        raise ValueError(
            "observation space: expected a Box, Discrete or MultiDiscrete, got Dict; "
            "ask for each of its entries (kinds_of)"
        )
    shape, dtype, low, high = known.shape, known.dtype, known.low, known.high
    size = math.prod(shape)
    if size == 0:
        raise ValueError(f"observation space: shape {shape} holds no numbers")
    if _is_image(shape, dtype, low, high):
        return "image"
    if _is_grid(shape, dtype, low, high):
        return "grid"
    if _channels_first(shape, dtype, low, high):
        raise ValueError(
            f"observation space: got {dtype.name} {shape}: channels last, please "
            "(of an environment of your own, give --env_options '{channels: first}')"
        )
    if size > LARGEST_VECTOR:
        raise ValueError(
            f"observation space: {dtype.name} {shape} is no image, and {size} numbers are too many for a vector "
            f"(at most {LARGEST_VECTOR}); images are uint8 [H, W, C] with low 0 and high 255"
        )
    if dtype.kind == "b" or (dtype.kind in "iu" and (low == 0).all() and (high == 1).all()):
        return "bits"
    return "vector"


def kinds_of(space: AnySpace) -> dict[str, Kind]:
    """Kind of every entry of a Dict space; `{"": kind}` for any other. Dicts in Dicts are refused."""
    known = as_space(space, path="observation space")
    if not isinstance(known, Dict):
        return {"": kind_of(known)}
    if not known.spaces:
        raise ValueError("observation space: a Dict without entries")
    kinds: dict[str, Kind] = {}
    for name, entry in known.spaces.items():
        try:
            kinds[name] = kind_of(entry)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return kinds


def categories_of(space: AnySpace) -> tuple[int, ...]:
    """Numbers of categories: of each channel of a grid, or of each number of a Discrete or MultiDiscrete.

    Raises:
        ValueError: another kind.
    """
    known = as_space(space)
    kind = kind_of(known)
    if kind == "grid" and isinstance(known, Box):
        return tuple(int(h) + 1 for h in known.high.reshape(-1, known.shape[-1])[0])
    if isinstance(known, Discrete):
        return (known.n,)
    if isinstance(known, MultiDiscrete):
        return known.nvec
    raise ValueError("categories: only a grid, a Discrete and a MultiDiscrete have them")


def shape_of(space: AnySpace) -> tuple[int, ...]:
    """Shape of one array's space; () for a Discrete."""
    known = as_space(space)
    return known.shape if isinstance(known, Box | MultiDiscrete) else ()


def image_range(space: AnySpace) -> tuple[float, float]:
    """Values of black and white of a space of kind "image"."""
    known = _box(space)
    return float(known.low.flat[0]), float(known.high.flat[0])


def scale_of(space: AnySpace) -> tuple[Array, Array] | None:
    """Centre and half width, float32 of the Box's shape, with which a vector's numbers come to lie in [-1, 1].

    None where they are taken as they are: bounds of 10 or less, or none that say something about the scale.
    """
    box = _box(space)
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    known = np.isfinite(low) & np.isfinite(high) & (np.maximum(abs(low), abs(high)) <= FAR)
    wide = known & (np.maximum(abs(low), abs(high)) > 10) & (high > low)
    if not wide.any():
        return None
    centre = np.where(wide, (np.where(wide, high, 0) + np.where(wide, low, 0)) / 2, 0.0)
    half = np.where(wide, (np.where(wide, high, 2) - np.where(wide, low, 0)) / 2, 1.0)
    return centre.astype(np.float32), half.astype(np.float32)


def _categories(count: int) -> Kind:
    if count > MOST_CATEGORIES:
        raise ValueError(
            f"observation space: {count} categories are too many (at most {MOST_CATEGORIES}); observe numbers instead"
        )
    return "categories"


def _is_image(shape: tuple[int, ...], dtype: np.dtype[Any], low: Array, high: Array) -> bool:
    if len(shape) != 3 or min(shape[:2]) < SMALLEST_IMAGE or shape[-1] > MOST_CHANNELS:
        return False
    if dtype == np.uint8:
        return bool((low == 0).all() and (high == 255).all())
    if dtype.kind != "f" or shape[-1] not in (1, 3, 4):
        return False
    first, last = low.flat[0], high.flat[0]
    uniform = bool((low == first).all() and (high == last).all() and first < last)
    return uniform and bool(abs(first) <= FAR and abs(last) <= FAR)


def _channels_first(shape: tuple[int, ...], dtype: np.dtype[Any], low: Array, high: Array) -> bool:
    if len(shape) != 3 or shape[0] > MOST_CHANNELS or shape[0] >= min(shape[1:]):
        return False
    return _is_image((shape[1], shape[2], shape[0]), dtype, np.moveaxis(low, 0, -1), np.moveaxis(high, 0, -1))


def _is_grid(shape: tuple[int, ...], dtype: np.dtype[Any], low: Array, high: Array) -> bool:
    if dtype != np.uint8 or len(shape) != 3 or (low != 0).any() or (high == 255).any():
        return False
    highest = high.reshape(-1, shape[-1]).max(0)
    cells, categories = math.prod(shape[:2]), int(highest.sum(dtype=np.int64)) + shape[-1]
    return bool((high == highest).all()) and cells * categories <= LARGEST_GRID


def _box(space: AnySpace) -> Box:
    known = as_space(space)
    if not isinstance(known, Box):
        raise ValueError(f"space: expected a Box, got a {type(known).__name__}")
    return known
