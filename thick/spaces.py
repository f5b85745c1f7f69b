"""Spaces and their JSON form, the one that manifests keep and the protocol carries. Needs numpy alone.

    Box            {"type": "Box", "shape": [64, 64, 3], "dtype": "uint8", "low": 0, "high": 255}
    ...            low and high: a scalar or a nested list; null where a float is unbounded, never Infinity
    Discrete       {"type": "Discrete", "n": 5}; with "start" where it does not start at 0
    MultiDiscrete  {"type": "MultiDiscrete", "nvec": [3, 4]}; nested lists where it has several dimensions,
                   and "start" (of the same shape) where it does not start at 0
    Dict           {"type": "Dict", "spaces": {name: space}}

:func:`parse_space` reads the form and :func:`space_to_json` writes it; :func:`as_space` takes a gymnasium space too.
A MultiBinary travels as the Box of int8 from 0 to 1 that it equals. ``thick.envs.spaces`` makes gymnasium's spaces of
the form, ``thick.envs.kinds`` says what an observation is (image, grid, vector, ...).
"""

from __future__ import annotations

import functools
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thick.nearest import did_you_mean

DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
)
"""names of the element types that may travel"""

FARTHEST = 2**62
"""sizes and starts of discrete spaces lie below it, so that every member is an int64"""
LARGEST = 2**27
"""numbers of an array whose form is read: its bounds are held in memory"""
DEEPEST = 16
"""Dicts in Dicts"""


@dataclass(frozen=True, eq=False)
class Box:
    """Arrays of one shape and dtype between two bounds (both included; infinite where there is none)."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    low: np.ndarray
    """of the shape and dtype"""
    high: np.ndarray
    """of the shape and dtype"""

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

_FIELDS = {
    "Box": ("type", "shape", "dtype", "low", "high"),
    "Discrete": ("type", "n"),
    "MultiDiscrete": ("type", "nvec"),
    "Dict": ("type", "spaces"),
}
_OPTIONAL = {"Discrete": ("start",), "MultiDiscrete": ("start",)}


def parse_space(form: Any, *, path: str = "space", exact: bool = True) -> Space:
    """The space that a JSON form describes.

    Args:
        form: see the head of the module.
        path: what messages call it.
        exact: refuse keys that the form does not have; a client takes them, for its server may be newer.

    Raises:
        ValueError: ``path.of.the.part: expected …, got …``.
    """
    return _parse(form, path, exact, DEEPEST)


def _parse(form: Any, path: str, exact: bool, depth: int) -> Space:
    if not isinstance(form, Mapping):
        raise ValueError(f"{path}: expected an object with a 'type', got {type(form).__name__}")
    kind = form.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        hint = did_you_mean(kind, _FIELDS) if isinstance(kind, str) else ""
        raise ValueError(f"{path}.type: expected one of {', '.join(_FIELDS)}, got {reprlib.repr(kind)}{hint}")
    _check_keys(form, kind, path, exact)
    if kind == "Box":
        return _parse_box(form, path)
    if kind == "Discrete":
        n, start = form["n"], form.get("start", 0)
        if type(n) is not int or not 1 <= n < FARTHEST:
            raise ValueError(f"{path}.n: expected a whole number above 0, got {reprlib.repr(n)}")
        if type(start) is not int or abs(start) >= FARTHEST:
            raise ValueError(f"{path}.start: expected a whole number, got {reprlib.repr(start)}")
        return Discrete(n, start)
    if kind == "MultiDiscrete":
        return _multi_discrete(form["nvec"], form.get("start"), path)
    spaces = form["spaces"]
    if not isinstance(spaces, Mapping):
        raise ValueError(f"{path}.spaces: expected an object of spaces, got {type(spaces).__name__}")
    if depth == 0:
        raise ValueError(f"{path}: expected at most {DEEPEST} Dicts in Dicts")
    return Dict(
        {str(key): _parse(entry, f"{path}.spaces.{key}", exact, depth - 1) for key, entry in spaces.items()}
    )


def _check_keys(form: Mapping[str, Any], kind: str, path: str, exact: bool) -> None:
    needed = _FIELDS[kind]
    known = (*needed, *_OPTIONAL.get(kind, ()))
    missing = [name for name in needed if name not in form]
    unknown = [name for name in form if name not in known] if exact else []
    if missing or unknown:
        faults = [f"missing {missing}"] if missing else []
        faults += [f"unknown {unknown}{did_you_mean(str(unknown[0]), known)}"] if unknown else []
        raise ValueError(f"{path}: expected a {kind} with {', '.join(known)}; {', '.join(faults)}")


def _multi_discrete(nvec: Any, start: Any, path: str) -> MultiDiscrete:
    """From nested lists or arrays; ``start`` may be None."""
    sizes = _whole(nvec, f"{path}.nvec")
    if (sizes < 1).any():
        raise ValueError(f"{path}.nvec: expected whole numbers above 0, got {reprlib.repr(nvec)}")
    starts = np.zeros_like(sizes) if start is None else _whole(start, f"{path}.start")
    if starts.shape != sizes.shape:
        raise ValueError(f"{path}.start: expected the shape of nvec, {sizes.shape}, got {starts.shape}")
    first = tuple(starts.ravel().tolist()) if starts.any() else ()
    return MultiDiscrete(tuple(sizes.ravel().tolist()), first, sizes.shape if sizes.ndim > 1 else ())


def _whole(value: Any, path: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{path}: expected nested lists of one shape") from error
    if array.dtype.kind not in "iu" or array.ndim < 1 or array.size == 0:
        raise ValueError(f"{path}: expected a list of whole numbers, got {reprlib.repr(value)}")
    if (array >= FARTHEST).any() or (array <= -FARTHEST).any():
        raise ValueError(f"{path}: expected whole numbers below 2**62, got {reprlib.repr(value)}")
    return array.astype(np.int64)


def _parse_box(form: Mapping[str, Any], path: str) -> Box:
    shape, dtype = form["shape"], form["dtype"]
    if not isinstance(shape, list | tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"{path}.shape: expected a list of whole numbers, got {reprlib.repr(shape)}")
    if math.prod(shape) > LARGEST:
        raise ValueError(f"{path}.shape: expected at most {LARGEST} numbers, got {reprlib.repr(shape)}")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        hint = did_you_mean(dtype, DTYPES) if isinstance(dtype, str) else ""
        raise ValueError(
            f"{path}.dtype: expected one of {', '.join(DTYPES)}, got {reprlib.repr(dtype)}{hint}"
        )
    bounds = [
        _parse_bound(form[name], tuple(shape), np.dtype(dtype), infinite, f"{path}.{name}")
        for name, infinite in (("low", -math.inf), ("high", math.inf))
    ]
    return make_box(shape, dtype, *bounds, path=path)


def _parse_bound(
    bound: Any, shape: tuple[int, ...], dtype: np.dtype[Any], infinite: float, path: str
) -> np.ndarray:
    """One number, or one for each of the box; as numpy reads them, not yet in the dtype."""
    raw = np.array(bound, dtype=object)
    if raw.shape not in ((), shape):
        raise ValueError(f"{path}: expected a number or shape {shape}, got shape {raw.shape}")
    numbers = raw.reshape(-1).tolist()
    if any(v is not None and not isinstance(v, int | float) for v in numbers):
        raise ValueError(f"{path}: expected numbers or null, got {reprlib.repr(bound)}")
    if any(isinstance(v, float) and not math.isfinite(v) for v in numbers):
        raise ValueError(f"{path}: expected finite numbers; null says unbounded")
    if dtype.kind != "f" and None in numbers:
        raise ValueError(f"{path}: expected whole {dtype.name} numbers, got null, which only floats may have")
    try:
        array = np.asarray(
            [infinite if v is None else v for v in numbers], np.float64 if dtype.kind == "f" else None
        )
    except OverflowError as error:
        raise ValueError(
            f"{path}: expected numbers within {dtype.name}, got {reprlib.repr(bound)}"
        ) from error
    return array.reshape(raw.shape)


def make_box(shape: Sequence[int], dtype: Any, low: Any, high: Any, *, path: str = "space") -> Box:
    """A :class:`Box`; bounds broadcast to ``shape``, infinite ones of integer boxes become the dtype's.

    Raises:
        ValueError: a dtype that cannot travel, bounds that are NaN, not of the dtype, or the wrong way round.
    """
    name = np.dtype(dtype).name
    if name not in DTYPES:
        raise ValueError(f"{path}.dtype: expected one of {', '.join(DTYPES)}, got {name}")
    kind, sizes = np.dtype(name), tuple(int(n) for n in shape)
    least = _bound(low, sizes, kind, f"{path}.low")
    greatest = _bound(high, sizes, kind, f"{path}.high")
    if (least > greatest).any():
        raise ValueError(f"{path}: low lies above high")
    if kind.kind == "f" and ((least == math.inf).any() or (greatest == -math.inf).any()):
        raise ValueError(f"{path}: low is infinity or high is minus infinity, expected numbers between")
    return Box(sizes, kind, least, greatest)


def _bound(bound: Any, shape: tuple[int, ...], dtype: np.dtype[Any], path: str) -> np.ndarray:
    try:
        given = np.asarray(bound)
        full = np.broadcast_to(given, shape)
    except ValueError as error:
        raise ValueError(f"{path}: does not fit shape {shape}") from error
    if given.dtype.kind not in "biuf":
        raise ValueError(f"{path}: expected numbers within {dtype.name}, got {reprlib.repr(bound)}")
    if given.dtype.kind in "bf":
        full = full.astype(np.uint8 if given.dtype.kind == "b" else np.float64)
    if np.isnan(full).any():
        raise ValueError(f"{path}: expected numbers, got NaN")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            cast = full.astype(dtype)
        if (np.isinf(cast) & np.isfinite(full)).any():
            raise ValueError(f"{path}: expected numbers within {dtype.name}, got {reprlib.repr(bound)}")
        return cast
    least, greatest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    finite = np.isfinite(full)
    if (finite & ((full < least) | (full > greatest) | (full != np.trunc(full)))).any():
        raise ValueError(
            f"{path}: expected whole {dtype.name} numbers from {least} to {greatest}, got {reprlib.repr(bound)}"
        )
    if given.dtype.kind != "f":
        return full.astype(dtype)
    # The greatest int64 is no float64: what was rounded up to 2**63 would wrap around.
    ends = [full <= least, full >= greatest]
    inner = np.where(ends[0] | ends[1], 0, full).astype(dtype)
    return np.select(ends, [np.asarray(least, dtype), np.asarray(greatest, dtype)], inner).astype(dtype)


def as_space(space: Any, *, path: str = "space") -> Space:
    """One of these spaces from one of these, a JSON form, or a gymnasium space (recognized by its class's name).

    Raises:
        ValueError: as :func:`parse_space`; or another kind of space.
    """
    if isinstance(space, Box | Discrete | MultiDiscrete | Dict):
        return space
    if isinstance(space, Mapping) and not hasattr(space, "sample"):  # gymnasium's Dict is a Mapping too
        return parse_space(space, path=path)
    kind = type(space).__name__
    if kind == "Box":
        return make_box(space.shape, space.dtype, space.low, space.high, path=path)
    if kind == "Discrete":
        return Discrete(int(space.n), int(space.start))
    if kind == "MultiDiscrete":
        return _multi_discrete(space.nvec, space.start, path)
    if kind == "MultiBinary":
        return make_box(space.shape, np.int8, 0, 1)
    if kind == "Dict":
        return Dict(
            {key: as_space(inner, path=f"{path}.spaces.{key}") for key, inner in space.spaces.items()}
        )
    raise ValueError(
        f"{path}: expected a Box, Discrete, MultiDiscrete, MultiBinary or Dict space, got {kind}"
    )


def space_to_json(space: Any) -> dict[str, Any]:
    """The JSON form of any space that :func:`as_space` takes; raises as it does."""
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
    """A scalar where all are equal, else a nested list; None for an infinite entry."""
    if bound.size == 0:
        return bound.dtype.type(0).item()
    if (bound == bound.flat[0]).all():
        return _numbers(bound.flat[0].item())
    return _numbers(bound.tolist())


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(item) for item in value]
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
