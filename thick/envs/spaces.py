"""Spaces as JSON, and back. What an observation *is* (image, grid, vector, ...) is told by `thick.envs.kinds`.

Needs gymnasium only to *build* a space (`space_from_json`).

    Box            {"type": "Box", "shape": [64, 64, 3], "dtype": "uint8", "low": 0, "high": 255}
    ...            low and high: a scalar or a nested list; null where unbounded, never Infinity
    Discrete       {"type": "Discrete", "n": 5}; with "start" where it does not start at 0
    MultiDiscrete  {"type": "MultiDiscrete", "nvec": [3, 4]}; nested lists where it has several dimensions,
                   and "start" (of the same shape) where it does not start at 0
    Dict           {"type": "Dict", "spaces": {name: space}}

A MultiBinary travels as the Box of int8 from 0 to 1 that it equals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thick.nearest import did_you_mean

if TYPE_CHECKING:
    import gymnasium

Array = np.ndarray[Any, Any]
IMAGE_SHAPE = (64, 64, 3)
"""the shape of the images that this project's own environments show"""

DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
)


def space_to_json(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """The JSON form of a space (see above). Raises ValueError for one that has no such form."""
    name = type(space).__name__
    parts: Any = space
    if name == "Box":
        dtype = np.dtype(parts.dtype).name
        if dtype not in DTYPES:
            raise ValueError(f"Box: dtype {dtype} cannot travel; known: {', '.join(DTYPES)}")
        return {
            "type": "Box",
            "shape": [int(n) for n in parts.shape],
            "dtype": dtype,
            "low": _bound_to_json(parts.low),
            "high": _bound_to_json(parts.high),
        }
    if name == "Discrete":
        start = int(parts.start)
        return {"type": "Discrete", "n": int(parts.n)} | ({"start": start} if start else {})
    if name == "MultiDiscrete":
        moved = {"start": parts.start.tolist()} if np.any(parts.start) else {}
        return {"type": "MultiDiscrete", "nvec": parts.nvec.tolist(), **moved}
    if name == "MultiBinary":
        shape = [int(n) for n in parts.shape]
        return {"type": "Box", "shape": shape, "dtype": "int8", "low": 0, "high": 1}
    if name == "Dict":
        return {"type": "Dict", "spaces": {key: space_to_json(entry) for key, entry in parts.spaces.items()}}
    raise ValueError(f"{name}: expected a Box, Discrete, MultiDiscrete, MultiBinary or Dict space")


def space_from_json(form: Mapping[str, Any]) -> gymnasium.Space[Any]:
    """The space of a JSON form; raises ValueError saying which part is wrong and what was expected."""
    from thick.envs.packages import require

    spaces = require("gymnasium").spaces
    return _build(form, spaces, at="space")


def _build(form: Any, spaces: Any, *, at: str) -> Any:
    if not isinstance(form, Mapping):
        raise ValueError(f"{at}: expected an object with a 'type', got {type(form).__name__}")
    kind = form.get("type")
    match kind:
        case "Box":
            _only(form, ("type", "shape", "dtype", "low", "high"), at)
            low, high = bounds_of(form, at=at)
            return spaces.Box(low, high, low.shape, np.dtype(form["dtype"]))
        case "Discrete":
            _only(form, ("type", "n"), at, optional=("start",))
            start = form.get("start", 0)
            if type(start) is not int or abs(start) >= 2**62:
                raise ValueError(f"{at}.start: expected a whole number, got {start!r}")
            return spaces.Discrete(_positive(form["n"], f"{at}.n"), start=start)
        case "MultiDiscrete":
            _only(form, ("type", "nvec"), at, optional=("start",))
            nvec = _whole(form["nvec"], f"{at}.nvec")
            if nvec.size == 0 or (nvec < 1).any():
                raise ValueError(f"{at}.nvec: expected whole numbers above 0, got {form['nvec']!r}")
            start = _whole(form.get("start", np.zeros_like(nvec).tolist()), f"{at}.start")
            if start.shape != nvec.shape:
                raise ValueError(f"{at}.start: expected the shape of nvec, {nvec.shape}, got {start.shape}")
            return spaces.MultiDiscrete(nvec, start=start)
        case "Dict":
            _only(form, ("type", "spaces"), at)
            if not isinstance(form["spaces"], Mapping):
                raise ValueError(f"{at}.spaces: expected an object, got {type(form['spaces']).__name__}")
            entries = form["spaces"].items()
            return spaces.Dict({key: _build(entry, spaces, at=f"{at}.{key}") for key, entry in entries})
    known = ("Box", "Discrete", "MultiDiscrete", "Dict")
    hint = did_you_mean(str(kind), known)
    raise ValueError(f"{at}.type: expected one of {', '.join(known)}, got {kind!r}{hint}")


def form_of(space: Any) -> Mapping[str, Any]:
    """The JSON form of a space, which may be given as such. Raises ValueError as `space_to_json`."""
    # gymnasium's Dict is a Mapping as well
    return space if isinstance(space, Mapping) and not hasattr(space, "sample") else space_to_json(space)


def _only(
    form: Mapping[str, Any], names: tuple[str, ...], at: str, *, optional: tuple[str, ...] = ()
) -> None:
    missing = [name for name in names if name not in form]
    extra = [name for name in form if name not in names + optional]
    if missing or extra:
        raise ValueError(f"{at}: expected {', '.join(names)}; missing {missing}, unknown {extra}")


def _positive(value: Any, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{at}: expected a whole number above 0, got {value!r}")
    return value


def _whole(value: Any, at: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{at}: expected nested lists of one shape") from error
    if array.dtype.kind not in "iu":
        raise ValueError(f"{at}: expected whole numbers, got {value!r}")
    return array.astype(np.int64)


def _bound_to_json(bound: Array) -> Any:
    """A scalar where all are equal, else a nested list; None for an infinite entry."""
    values = [None if isinstance(v, float) and math.isinf(v) else v for v in bound.reshape(-1).tolist()]
    if any(isinstance(v, float) and math.isnan(v) for v in values):
        raise ValueError("Box: a bound is NaN")
    if values and all(v == values[0] for v in values):
        return values[0]
    return np.array(values, dtype=object).reshape(bound.shape).tolist()


def bounds_of(form: Mapping[str, Any], *, at: str = "space") -> tuple[Array, Array]:
    """low and high of a Box's JSON form as arrays of its dtype and shape."""
    shape = form["shape"]
    if not isinstance(shape, list | tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"{at}.shape: expected a list of whole numbers, got {shape!r}")
    if form["dtype"] not in DTYPES:
        raise ValueError(f"{at}.dtype: expected one of {', '.join(DTYPES)}, got {form['dtype']!r}")
    dtype = np.dtype(form["dtype"])
    arrays = []
    for name, infinite in (("low", -math.inf), ("high", math.inf)):
        raw = np.array(form[name], dtype=object)
        if raw.shape not in ((), tuple(shape)):
            raise ValueError(f"{at}.{name}: expected a number or shape {tuple(shape)}, got shape {raw.shape}")
        flat = [infinite if v is None else v for v in raw.reshape(-1).tolist()]
        if any(isinstance(v, str) or not isinstance(v, int | float) for v in flat):
            raise ValueError(f"{at}.{name}: expected numbers or null, got {form[name]!r}")
        if any(v is not None and not math.isfinite(v) for v in raw.reshape(-1).tolist()):
            raise ValueError(f"{at}.{name}: expected finite numbers; null says unbounded")
        if dtype.kind != "f":
            limits = np.iinfo(dtype) if dtype.kind in "iu" else None
            smallest, largest = (limits.min, limits.max) if limits else (0, 1)
            if any(not smallest <= v <= largest or v != int(v) for v in flat):
                raise ValueError(f"{at}.{name}: expected whole {dtype.name} numbers, got {form[name]!r}")
        arrays.append(np.broadcast_to(np.array(flat, dtype).reshape(raw.shape), tuple(shape)).copy())
    low, high = arrays
    if (low > high).any():
        raise ValueError(f"{at}: low lies above high")
    return low, high
