"""What an observation is, told from its space; and spaces as JSON.

Everything here takes a gymnasium space or its JSON form, and needs gymnasium only to *build* one
(`space_from_json`).

    Box     {"type": "Box", "shape": [64, 64, 3], "dtype": "uint8", "low": 0, "high": 255}
    ...     low and high: a scalar or a nested list; null where unbounded, never Infinity
    others  {"type": "Discrete", "n": 5}, {"type": "MultiDiscrete", "nvec": [3, 4]},
            {"type": "Dict", "spaces": {name: space}}
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    import gymnasium

Array = np.ndarray[Any, Any]
Kind = Literal["image", "grid", "vector"]
KINDS: tuple[Kind, ...] = get_args(Kind)
IMAGE_SHAPE = (64, 64, 3)
"""The one image shape the encoders read."""

DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
)


def kind_of(space: gymnasium.Space[Any] | Mapping[str, Any]) -> Kind:
    """The kind of one array's space: how it is encoded, decoded and drawn.

    "image": Box uint8 [64, 64, 3] with high 255; "grid": Box uint8 [H, W, 3] with one high below 255
    for each channel (categories = high + 1); "vector": Box of floats, any shape, flattened.

    Raises:
        ValueError: a Dict (ask for each entry, or `kinds_of`), or a space that is none of these.
    """
    form = _form(space)
    if form["type"] != "Box":
        hint = "; ask for each of its entries (kinds_of)" if form["type"] == "Dict" else ""
        raise ValueError(f"observation space: expected a Box, got {form['type']}{hint}")
    shape, dtype = tuple(form["shape"]), form["dtype"]
    if dtype.startswith("float"):
        return "vector"
    if dtype == "uint8" and len(shape) == 3 and shape[-1] == 3:
        low, high = _bounds(form)
        if (low == 0).all() and (high == 255).all():
            if shape != IMAGE_SHAPE:
                raise ValueError(f"observation space: images must be {IMAGE_SHAPE}, got {shape}: resize them")
            return "image"
        if (low == 0).all() and (high < 255).all() and (high == high.reshape(-1, 3).max(0)).all():
            return "grid"
        raise ValueError(
            "observation space: uint8 [H, W, 3] needs low 0 and high 255 (image), or low 0 and one high "
            f"below 255 for each channel (grid); got low {low.min()}, high {high.min()} to {high.max()}"
        )
    if dtype == "uint8" and len(shape) == 3 and shape[0] in (1, 3):
        raise ValueError(f"observation space: got {shape}: channels last, please")
    raise ValueError(f"observation space: Box {dtype} {shape} is neither image nor grid nor floats")


def kinds_of(space: gymnasium.Space[Any] | Mapping[str, Any]) -> dict[str, Kind]:
    """Kind of every entry of a Dict space; `{"": kind}` for a plain Box. Dicts in Dicts are refused."""
    form = _form(space)
    if form["type"] != "Dict":
        return {"": kind_of(form)}
    kinds: dict[str, Kind] = {}
    for name, entry in form["spaces"].items():
        try:
            kinds[name] = kind_of(entry)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return kinds


def categories_of(space: gymnasium.Space[Any] | Mapping[str, Any]) -> tuple[int, int, int]:
    """Numbers of categories of the three channels of a grid; raises ValueError for another kind."""
    form = _form(space)
    if kind_of(form) != "grid":
        raise ValueError("categories: only a grid has them")
    first, second, third = (int(h) + 1 for h in _bounds(form)[1].reshape(-1, 3)[0])
    return first, second, third


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
        if parts.start != 0:
            raise ValueError(f"Discrete: only spaces that start at 0 can travel, got start {parts.start}")
        return {"type": "Discrete", "n": int(parts.n)}
    if name == "MultiDiscrete":
        if np.any(parts.start):
            raise ValueError(f"MultiDiscrete: only spaces that start at 0 can travel, got {parts.start}")
        return {"type": "MultiDiscrete", "nvec": parts.nvec.tolist()}
    if name == "Dict":
        return {"type": "Dict", "spaces": {key: space_to_json(entry) for key, entry in parts.spaces.items()}}
    raise ValueError(f"{name}: expected a Box, Discrete, MultiDiscrete or Dict space")


def space_from_json(form: Mapping[str, Any]) -> gymnasium.Space[Any]:
    """The space of a JSON form; raises ValueError saying which part is wrong and what was expected."""
    from thick.envs.registry import require

    spaces = require("gymnasium").spaces
    return _build(form, spaces, at="space")


def _build(form: Any, spaces: Any, *, at: str) -> Any:
    if not isinstance(form, Mapping):
        raise ValueError(f"{at}: expected an object with a 'type', got {type(form).__name__}")
    kind = form.get("type")
    match kind:
        case "Box":
            _only(form, ("type", "shape", "dtype", "low", "high"), at)
            low, high = _bounds(form, at=at)
            return spaces.Box(low, high, low.shape, np.dtype(form["dtype"]))
        case "Discrete":
            _only(form, ("type", "n"), at)
            return spaces.Discrete(_positive(form["n"], f"{at}.n"))
        case "MultiDiscrete":
            _only(form, ("type", "nvec"), at)
            nvec = np.asarray(form["nvec"])
            if nvec.dtype.kind not in "iu" or nvec.size == 0 or (nvec < 1).any():
                raise ValueError(f"{at}.nvec: expected whole numbers above 0, got {form['nvec']!r}")
            return spaces.MultiDiscrete(nvec)
        case "Dict":
            _only(form, ("type", "spaces"), at)
            if not isinstance(form["spaces"], Mapping):
                raise ValueError(f"{at}.spaces: expected an object, got {type(form['spaces']).__name__}")
            entries = form["spaces"].items()
            return spaces.Dict({key: _build(entry, spaces, at=f"{at}.{key}") for key, entry in entries})
    known = ("Box", "Discrete", "MultiDiscrete", "Dict")
    near = difflib.get_close_matches(str(kind), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"{at}.type: expected one of {', '.join(known)}, got {kind!r}{hint}")


def _form(space: Any) -> Mapping[str, Any]:
    # gymnasium's Dict is a Mapping as well
    return space if isinstance(space, Mapping) and not hasattr(space, "sample") else space_to_json(space)


def _only(form: Mapping[str, Any], names: tuple[str, ...], at: str) -> None:
    missing = [name for name in names if name not in form]
    extra = [name for name in form if name not in names]
    if missing or extra:
        raise ValueError(f"{at}: expected {', '.join(names)}; missing {missing}, unknown {extra}")


def _positive(value: Any, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{at}: expected a whole number above 0, got {value!r}")
    return value


def _bound_to_json(bound: Array) -> Any:
    """A scalar where all are equal, else a nested list; None for an infinite entry."""
    values = [None if isinstance(v, float) and math.isinf(v) else v for v in bound.reshape(-1).tolist()]
    if any(isinstance(v, float) and math.isnan(v) for v in values):
        raise ValueError("Box: a bound is NaN")
    if values and all(v == values[0] for v in values):
        return values[0]
    return np.array(values, dtype=object).reshape(bound.shape).tolist()


def _bounds(form: Mapping[str, Any], *, at: str = "space") -> tuple[Array, Array]:
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
