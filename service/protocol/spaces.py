"""Spaces without gymnasium: their JSON form, and checks of observations and actions against them.

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

from service.protocol.arrays import DTYPES, decode_array
from service.protocol.errors import (
    MAX_ERRORS,
    FieldError,
    ProblemError,
    invalid,
    invalid_fields,
    show,
    suggest,
)
from service.protocol.limits import DEFAULT_LIMITS, Limits


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


def decode_observation(
    value: Any, space: Space, *, path: str = "observation", limits: Limits = DEFAULT_LIMITS
) -> Any:
    """The observation that a decoded body holds, checked against the space and in the space's dtypes.

    Returns:
        An array of the space's shape and dtype; a dict of such for a Dict space.

    Raises:
        ProblemError: code ``invalid_request``, with one entry for each wrong part.
    """
    errors: list[FieldError] = []
    result = _check(value, space, path, limits, errors)
    if errors:
        raise invalid_fields(errors)
    return result


def _check(value: Any, space: Space, path: str, limits: Limits, errors: list[FieldError]) -> Any:
    try:
        if isinstance(space, Dict):
            return _check_dict(value, space, path, limits, errors)
        if isinstance(space, Box):
            return _check_box(value, space, path, limits)
        if isinstance(space, Discrete):
            return np.asarray(_check_discrete(value, space, path, limits))
        return _check_multi(value, space, path, limits)
    except ProblemError as problem:
        errors.extend(problem.errors)
        return None


def _check_dict(value: Any, space: Dict, path: str, limits: Limits, errors: list[FieldError]) -> Any:
    if not isinstance(value, Mapping):
        raise invalid(path, f"expected an object with the keys {', '.join(space.spaces)}, got {show(value)}")
    value = _flat(value, space)
    for key in value:
        if len(errors) >= MAX_ERRORS:
            break
        if key not in space.spaces:
            errors.append(
                FieldError(f"{path}.{str(key)[:60]}", f"unknown key; {suggest(str(key), space.spaces)}")
            )
    result = {}
    for key, inner in space.spaces.items():
        if key not in value:
            errors.append(FieldError(f"{path}.{key}", f"is missing: {describe(inner)}"))
        else:
            result[key] = _check(value[key], inner, f"{path}.{key}", limits, errors)
    return result


def _flat(value: Mapping[str, Any], space: Dict) -> Mapping[str, Any]:
    """The observation with objects in objects named by their paths, where the space names its entries so.

    A model of an environment with a Dict in a Dict has the entries ``robot/joints``, ``robot/camera``: an observation
    is sent flat, or as the environment gives it.
    """
    while any(key not in space.spaces and _holds(value[key], key, space) for key in value):
        flat: dict[Any, Any] = {}
        for key, item in value.items():
            if key not in space.spaces and _holds(item, key, space):
                flat |= {f"{key}/{inner}": part for inner, part in _items(item)}
            else:
                flat[key] = item
        value = flat
    return value


def _holds(item: Any, key: Any, space: Dict) -> bool:
    return isinstance(item, (Mapping, list, tuple)) and any(
        name.startswith(f"{key}/") for name in space.spaces
    )


def _items(item: Any) -> list[tuple[Any, Any]]:
    return list(item.items() if isinstance(item, Mapping) else enumerate(item))


def _check_box(value: Any, space: Box, path: str, limits: Limits) -> np.ndarray:
    channels = space.shape[2] if len(space.shape) == 3 else (1 if len(space.shape) == 2 else None)
    array = decode_array(value, path=path, limits=limits, channels=channels, shape=space.shape)
    if len(space.shape) == 3 and space.shape[2] == 1 and array.shape == space.shape[:2]:
        array = array[:, :, None]  # a grey picture
    if array.shape != space.shape:
        raise invalid(
            path, f"expected shape {space.shape}, got {array.shape}{_hint(array.shape, space.shape)}"
        )
    if array.dtype == space.dtype and space.unbounded:
        return array
    if array.size and not _kinds_fit(array.dtype.kind, space.dtype.kind):
        raise invalid(path, f"expected {space.dtype.name}, got {array.dtype.name}")
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            raise invalid(path, f"expected finite numbers, got {_first(array, ~finite)}")
        if space.dtype.kind != "f":
            _check_whole(array, space, path)
    if space.dtype.kind == "f":
        with np.errstate(over="ignore"):
            cast = array.astype(space.dtype)
        if not np.isfinite(cast).all():
            raise invalid(path, f"{_first(array, ~np.isfinite(cast))} is too large for {space.dtype.name}")
        array = cast
    low, high = (False, True) if space.dtype.kind == "b" else (space.low, space.high)
    with np.errstate(invalid="ignore"):
        cast = array.astype(space.dtype, copy=False)
    outside = (array < low) | (array > high) | (cast != array)  # the last where it wrapped around
    if outside.any():
        at = np.unravel_index(int(outside.argmax()), outside.shape) if outside.shape else ()
        least, most = (np.broadcast_to(bound, space.shape)[at].item() for bound in (low, high))
        raise invalid(
            path, f"expected values from {show(least)} to {show(most)}, got {_first(array, outside)}"
        )
    return cast


def _kinds_fit(sent: str, wanted: str) -> bool:
    """Whether numbers of one kind of dtype may be sent for another: whole numbers are whole in any of them, but
    truth values are numbers only where they were meant as such."""
    return sent == wanted if sent == "b" else sent in "iuf"


def _check_whole(array: np.ndarray, space: Box, path: str) -> None:
    """Numbers with a decimal point are as good as integers, as long as they are whole."""
    fractions = array != np.floor(array)
    if not fractions.any():
        return
    low, high = (0, 1) if space.dtype.kind == "b" else (space.low.min(), space.high.max())
    scaled = space.dtype == np.uint8 and high == 255 and array.min() >= 0 and array.max() <= 1
    hint = "; a picture scaled to 0 to 1? Send its bytes" if scaled else ""
    raise invalid(path, f"expected whole numbers from {low} to {high}, got {_first(array, fractions)}{hint}")


def _check_discrete(value: Any, space: Discrete, path: str, limits: Limits) -> int:
    if isinstance(value, (Mapping, np.ndarray, np.generic)):
        array = decode_array(
            np.asarray(value) if isinstance(value, np.generic) else value, path=path, limits=limits
        )
        value = array.item() if array.size == 1 and array.dtype.kind in "iuf" else array
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not space.start <= value <= space.last:
        raise invalid(path, f"expected {describe(space)}, got {show(value)}")
    return value


def _check_multi(value: Any, space: MultiDiscrete, path: str, limits: Limits) -> np.ndarray:
    array = decode_array(value, path=path, limits=limits)
    if array.shape != space.shape:
        raise invalid(path, f"expected shape {space.shape}, got {array.shape}")
    if array.dtype.kind not in "iuf" or (array != np.floor(array)).any():
        raise invalid(path, f"expected integers, got {show(array.tolist())} ({array.dtype.name})")
    outside = (array < space.low) | (array > space.high)
    if outside.any():
        at = tuple(int(i) for i in np.unravel_index(int(outside.argmax()), outside.shape))
        low, high = space.low[at], space.high[at]
        place = f"{path}[{', '.join(map(str, at))}]"
        raise invalid(place, f"expected an integer from {low} to {high}, got {array[at]}")
    return array.astype(np.int64)


def decode_action(
    value: Any, space: Space, *, path: str = "action", limits: Limits = DEFAULT_LIMITS
) -> int | np.ndarray:
    """The action that a decoded body holds, checked: an int for Discrete, else an array."""
    if isinstance(space, Discrete):
        return _check_discrete(value, space, path, limits)
    result: np.ndarray = decode_observation(value, space, path=path, limits=limits)
    return result


def describe(space: Space) -> str:
    """A space in a few words, for messages."""
    if isinstance(space, Box):
        return f"{space.dtype.name} of shape {space.shape}"
    if isinstance(space, Discrete):
        return f"an integer from {space.start} to {space.last}"
    if isinstance(space, MultiDiscrete):
        return f"{len(space.nvec)} integers" + (f" of shape {space.shape}" if space.dimensions else "")
    return "an object with the keys " + ", ".join(space.spaces)


def _hint(got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if len(got) == 3 and len(expected) == 3 and got != expected and (got[1], got[2], got[0]) == expected:
        return ": channels last"
    if len(got) == len(expected) + 1 and got[1:] == expected:
        return ": one observation a request, without a batch dimension"
    return ""


def _first(array: np.ndarray, where: np.ndarray) -> str:
    """``300 at [2, 0, 1]``: the first element that ``where`` marks."""
    at = np.unravel_index(int(where.argmax()), where.shape) if where.shape else ()
    place = f" at [{', '.join(str(int(i)) for i in at)}]" if at else ""
    return f"{array[at].item()}{place}"
