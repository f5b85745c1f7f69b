"""Observations and actions as bodies hold them, validated against a space and in its dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
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
from thick.spaces import Box, Dict, Discrete, MultiDiscrete, Space, describe


def decode_observation(
    value: Any, space: Space, *, path: str = "observation", limits: Limits = DEFAULT_LIMITS
) -> Any:
    """The observation that a decoded body holds, validated against the space and in the space's dtypes.

    Returns:
        An array of the space's shape and dtype; a dict of such for a Dict space.

    Raises:
        ProblemError: code ``invalid_request``, with one entry for each wrong part.
    """
    if type(space) is Box and (plain := _as_it_is(value, space, limits)) is not None:
        return plain
    errors: list[FieldError] = []
    result = _check(value, space, path, limits, errors)
    if errors:
        raise invalid_fields(errors)
    return result


def _as_it_is(value: Any, space: Box, limits: Limits) -> np.ndarray | None:
    """The array where its bytes were sent just as the space has them, and every value is allowed; None otherwise."""
    if type(value) is not dict or len(value) != 3 or (form := _free_form(space)) is None:
        return None
    dtype, size, name = form
    data, shape = value.get("data"), value.get("shape")
    if (
        type(data) is not bytes
        or len(data) != size
        or size > limits.array_bytes
        or value.get("dtype") != name
    ):
        return None
    if type(shape) is not list or tuple(shape) != space.shape or {*map(type, shape)} != {int}:
        return None
    return np.frombuffer(data, dtype).reshape(space.shape)


@lru_cache(64)
def _free_form(space: Box) -> tuple[np.dtype[Any], int, str] | None:
    """How arrays travel whose every value the space allows: dtype, bytes, name of the dtype; None for other spaces."""
    if not space.unbounded:
        return None
    size = math.prod(space.shape) * space.dtype.itemsize
    return DTYPES[space.dtype.name], size, space.dtype.name


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
    if isinstance(value, (list, tuple)) and _is_tuple(space, len(value)):
        value = {str(place): item for place, item in enumerate(value)}
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


def _is_tuple(space: Dict, count: int) -> bool:
    """Whether the entries of a space are those of a Tuple of so many."""
    return {key.partition("/")[0] for key in space.spaces} == {str(place) for place in range(count)}


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
    if array.dtype == space.dtype and array.dtype.kind in "iuf" and _inside(array, space):
        return array
    if array.size and not _kinds_fit(array.dtype.kind, space):
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


def _inside(array: np.ndarray, space: Box) -> bool:
    """Whether all numbers are within the bounds; NaN is not, and what is infinite is left to the long way."""
    within = (array >= space.low) & (array <= space.high)
    return bool(within.all()) and (array.dtype.kind != "f" or bool(np.isfinite(array).all()))


def _kinds_fit(sent: str, space: Box) -> bool:
    """Whether numbers of one kind of dtype may be sent for another: whole numbers are whole in any of them, but
    truth values are numbers only where a space is made of them, or of bits (a MultiBinary)."""
    if sent != "b":
        return sent in "iuf"
    bits = space.dtype.kind in "iu" and bool((space.low == 0).all()) and bool((space.high == 1).all())
    return bits or space.dtype.kind == "b"


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
    """The action that a decoded body holds, validated: an int for Discrete, else an array."""
    if isinstance(space, Discrete):
        return _check_discrete(value, space, path, limits)
    result: np.ndarray = decode_observation(value, space, path=path, limits=limits)
    return result


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
