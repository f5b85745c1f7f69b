"""Spaces without gymnasium, and their JSON form.

``parse_space`` reads the JSON form, ``as_space`` takes that, a gymnasium space or one of these classes;
``space_to_json`` writes it. Bounds travel as a scalar or nested lists, with null where there is none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.protocol.arrays import DTYPES
from service.protocol.errors import (
    invalid,
    show,
)


@dataclass(frozen=True, eq=False)
class Box:
    """Arrays of one shape and dtype between two bounds (both included; infinite where there is none)."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    low: np.ndarray
    high: np.ndarray

    @functools.cached_property
    def unbounded(self) -> bool:
        """Whether every array of the shape and dtype lies within: integers from the least to the greatest."""
        if self.dtype.kind not in "iu":
            return False
        info = np.iinfo(self.dtype)
        return bool((self.low <= info.min).all() and (self.high >= info.max).all())

    def __repr__(self) -> str:
        ends = [
            f"{edge(bound):g}" if bound.size else "-"
            for edge, bound in ((np.min, self.low), (np.max, self.high))
        ]
        return f"Box({self.dtype.name}, {self.shape}, {ends[0]} to {ends[1]})"

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Uniform between the bounds; standard normal where a bound is missing."""
        if self.dtype.kind in "iub":
            low = self.low.astype(np.float64)
            width = self.high.astype(np.float64) - low + 1
            return (
                np.floor(low + rng.random(self.shape) * width).clip(low, low + width - 1).astype(self.dtype)
            )
        bounded = np.isfinite(self.low) & np.isfinite(self.high)
        low, high = np.where(bounded, self.low, 0.0), np.where(bounded, self.high, 0.0)
        uniform = low + rng.random(self.shape) * (high - low)
        normal = np.clip(rng.standard_normal(self.shape), self.low, self.high)
        return np.asarray(np.where(bounded, uniform, normal)).astype(self.dtype)


@dataclass(frozen=True)
class Discrete:
    """The integers start … start+n-1."""

    n: int
    start: int = 0

    @property
    def last(self) -> int:
        """The greatest."""
        return self.start + self.n - 1

    def sample(self, rng: np.random.Generator) -> int:
        """Uniform."""
        return self.start + int(rng.integers(self.n))


@dataclass(frozen=True)
class MultiDiscrete:
    """Arrays of integers, the i-th in start[i] … start[i]+nvec[i]-1; both flat, in the order of the array."""

    nvec: tuple[int, ...]
    start: tuple[int, ...] = ()
    """empty: all start at 0"""
    dimensions: tuple[int, ...] = ()
    """empty: one dimension"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array."""
        return self.dimensions or (len(self.nvec),)

    @functools.cached_property
    def low(self) -> np.ndarray:
        """int64 of the shape"""
        return np.asarray(self.start or np.zeros(len(self.nvec)), np.int64).reshape(self.shape)

    @functools.cached_property
    def high(self) -> np.ndarray:
        """int64 of the shape, included"""
        return self.low + np.asarray(self.nvec, np.int64).reshape(self.shape) - 1

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Uniform."""
        return self.low + rng.integers(np.asarray(self.nvec)).reshape(self.shape)


@dataclass(frozen=True)
class Dict:
    """Named spaces."""

    spaces: Mapping[str, Space]

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Each entry for itself."""
        return {key: space.sample(rng) for key, space in self.spaces.items()}


Space = Box | Discrete | MultiDiscrete | Dict


def parse_space(value: Any, *, path: str = "space") -> Space:
    """The space that a JSON form describes.

    Raises:
        ProblemError: code ``invalid_request``, naming what is wrong with the form.
    """
    if not isinstance(value, Mapping):
        raise invalid(path, f"expected a space object, got {show(value)}")
    kind = value.get("type")
    try:
        if kind == "Box":
            return _parse_box(value)
        if kind == "Discrete":
            n = value["n"]
            if type(n) is not int or n < 1:
                raise ValueError(f"n: expected a positive integer, got {show(n)}")
            start = value.get("start", 0)
            if type(start) is not int:
                raise ValueError(f"start: expected an integer, got {show(start)}")
            return Discrete(n, start)
        if kind == "MultiDiscrete":
            return _multi_discrete(value["nvec"], value.get("start"))
        if kind == "Dict":
            spaces = value["spaces"]
            if not isinstance(spaces, Mapping):
                raise ValueError("spaces: expected an object of spaces")
            return Dict({str(k): parse_space(v, path=f"{path}.spaces.{k}") for k, v in spaces.items()})
    except KeyError as error:
        raise invalid(path, f"a {kind} space needs {error.args[0]!r}") from error
    except ValueError as error:
        raise invalid(path, str(error)) from error
    raise invalid(path, f"type: expected Box, Discrete, MultiDiscrete or Dict, got {show(kind)}")


def _multi_discrete(nvec: Any, start: Any = None) -> MultiDiscrete:
    """From nested lists or arrays."""
    parts = []
    for name, given in (("nvec", nvec), ("start", nvec if start is None else start)):
        try:
            array = np.asarray(given)
        except ValueError as error:
            raise ValueError(f"{name}: expected lists of one length") from error
        if array.dtype.kind not in "iu" or array.ndim < 1 or array.size == 0:
            raise ValueError(f"{name}: expected integers, got {show(given)}")
        parts.append(array)
    sizes, starts = parts
    if (sizes < 1).any():
        raise ValueError(f"nvec: expected positive integers, got {show(nvec)}")
    if starts.shape != sizes.shape:
        raise ValueError(f"start: expected shape {sizes.shape}, got {starts.shape}")
    first = tuple(starts.ravel().tolist()) if start is not None and starts.any() else ()
    return MultiDiscrete(tuple(sizes.ravel().tolist()), first, sizes.shape if sizes.ndim > 1 else ())


def _parse_box(value: Mapping[str, Any]) -> Box:
    shape = value["shape"]
    if not isinstance(shape, Sequence) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"shape: expected a list of sizes, got {show(shape)}")
    name = value["dtype"]
    if name not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {show(name)}")
    dtype = np.dtype(name)
    return make_box(shape, dtype, _bound(value.get("low"), -math.inf), _bound(value.get("high"), math.inf))


def _bound(value: Any, missing: float) -> Any:
    if value is None:
        return missing
    if isinstance(value, (list, tuple)):
        return [_bound(item, missing) for item in value]
    return value


def make_box(shape: Sequence[int], dtype: Any, low: Any, high: Any) -> Box:
    """A :class:`Box`; bounds broadcast to ``shape``, infinite ones of integer boxes become the dtype's."""
    dtype, shape = np.dtype(dtype), tuple(int(n) for n in shape)
    bounds = []
    for bound, name in ((low, "low"), (high, "high")):
        try:
            full = np.broadcast_to(np.asarray(bound), shape)
        except ValueError as error:
            raise ValueError(f"{name}: does not fit shape {shape}") from error
        if full.dtype.kind not in "biuf":
            raise ValueError(f"{name}: expected numbers")
        if dtype.kind in "iu" and full.dtype.kind == "f":
            info = np.iinfo(dtype)
            finite = np.where(np.isfinite(full), full, 0)
            ends = np.where(full > 0, info.max, info.min)
            full = np.where(np.isfinite(full), finite.astype(dtype), ends.astype(dtype))
        bounds.append(full if dtype.kind == "b" else full.astype(dtype))
    return Box(shape, dtype, bounds[0], bounds[1])


def as_space(space: Any) -> Space:
    """One of these spaces from one of these, a JSON form, or a gymnasium space (recognized by its class's name)."""
    if isinstance(space, (Box, Discrete, MultiDiscrete, Dict)):
        return space
    if isinstance(space, Mapping) and not hasattr(space, "sample"):
        return parse_space(space)
    kind = type(space).__name__
    if kind == "Box":
        return make_box(space.shape, space.dtype, space.low, space.high)
    if kind == "Discrete":
        return Discrete(int(space.n), int(space.start))
    if kind == "MultiDiscrete":
        return _multi_discrete(space.nvec, space.start)
    if kind == "MultiBinary":
        return make_box(space.shape, np.int8, 0, 1)
    if kind == "Dict":
        return Dict({key: as_space(inner) for key, inner in space.spaces.items()})
    raise ValueError(f"expected a Box, Discrete, MultiDiscrete, MultiBinary or Dict space, got {kind}")


def space_to_json(space: Any) -> dict[str, Any]:
    """The JSON form of any space that :func:`as_space` takes."""
    known = as_space(space)
    if isinstance(known, Box):
        return {
            "type": "Box",
            "shape": list(known.shape),
            "dtype": known.dtype.name,
            "low": _bound_to_json(known.low),
            "high": _bound_to_json(known.high),
        }
    if isinstance(known, Discrete):
        return {"type": "Discrete", "n": known.n} | ({"start": known.start} if known.start else {})
    if isinstance(known, MultiDiscrete):
        nvec = np.reshape(known.nvec, known.shape).tolist()
        moved = {"start": known.low.tolist()} if known.start else {}
        return {"type": "MultiDiscrete", "nvec": nvec, **moved}
    return {"type": "Dict", "spaces": {key: space_to_json(inner) for key, inner in known.spaces.items()}}


def _bound_to_json(bound: np.ndarray) -> Any:
    if bound.size and (bound == bound.flat[0]).all():
        return _number(bound.flat[0].item())
    return _numbers(bound.tolist())


def _numbers(value: Any) -> Any:
    return [_numbers(item) for item in value] if isinstance(value, list) else _number(value)


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe(space: Space) -> str:
    """A space in a few words, for messages."""
    if isinstance(space, Box):
        return f"{space.dtype.name} of shape {space.shape}"
    if isinstance(space, Discrete):
        return f"an integer from {space.start} to {space.last}"
    if isinstance(space, MultiDiscrete):
        return f"{len(space.nvec)} integers" + (f" of shape {space.shape}" if space.dimensions else "")
    return "an object with the keys " + ", ".join(space.spaces)
