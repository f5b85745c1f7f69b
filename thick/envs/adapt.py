"""Environments made by others, in the form that the rest of this project reads.

Dicts in Dicts and Tuples become one Dict with entries named by their paths (`robot/joints`, `0`); frames that are
stacked or channels first become images [H, W, C]; every observation is checked and cast to its space; rewards, flags,
`events` and `success` become plain. What cannot be learned from is refused in one line.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from thick.envs.actions import ActionCodec
from thick.envs.errors import UnusableEnvironmentError, reason
from thick.envs.kinds import MOST_CHANNELS, kind_of
from thick.envs.packages import require
from thick.envs.resizing import is_frame, resized, side_of
from thick.envs.surroundings import Surroundings, theirs
from thick.envs.trial import check_protocol, reset_result, step_result
from thick.spaces import DTYPES

gymnasium = require("gymnasium")
spaces = gymnasium.spaces

Array = np.ndarray[Any, Any]

OPTIONS = {
    "channels": "first: images are [C, H, W] (or stacks of such)",
    "without": "entries of the observation to leave out, such as [mission]",
    "action_bounds": "[low, high] of actions that have no bounds of their own; each a number, or one for each",
    "resize": "side of images, in pixels, or [height, width]",
    "time_limit": "steps after which an episode is truncated",
}
"""Options of `make` for environments made by others, in addition to those that the environment itself takes."""


@dataclass(frozen=True)
class _Entry:
    """One array of the observation."""

    key: str
    path: tuple[Any, ...]
    """where it lies in what the environment gives"""
    given: Any
    """its space there"""
    space: Any
    """its space here"""
    convert: Callable[[Array], Array]


def adapted(
    env: Any,
    env_id: str,
    *,
    notext: bool = False,
    channels: str = "last",
    without: Iterable[str] = (),
    action_bounds: Sequence[Any] | None = None,
    resize: int | Sequence[int] | None = None,
    time_limit: int | None = None,
) -> Any:
    """The environment in our form; see OPTIONS.

    Raises:
        UnusableEnvironmentError: it is no environment of gymnasium, or has observations or actions that nothing here
            can use; the message names the entry and says what to do.
    """
    check_protocol(env, env_id)
    if channels not in ("first", "last"):
        raise UnusableEnvironmentError(f"channels: expected first or last, got {channels!r}")
    if time_limit is not None:
        if type(time_limit) is not int or time_limit < 1:
            raise UnusableEnvironmentError(
                f"time_limit: expected a number of steps above 0, got {time_limit!r}"
            )
        env = gymnasium.wrappers.TimeLimit(env, time_limit)
    names = [without] if isinstance(without, str) else without
    if not isinstance(names, list | tuple) or any(not isinstance(name, str) for name in names):
        raise UnusableEnvironmentError(
            f"without: expected names of entries, such as [mission], got {without!r}"
        )
    return Adapted(
        env,
        env_id=env_id,
        notext=notext,
        channels=channels,
        without=list(names),
        action_bounds=action_bounds,
        resize=resize,
    )


class Adapted(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):  # type: ignore[name-defined]
    """See the module; made by `adapted`."""

    def __init__(
        self,
        env: Any,
        *,
        env_id: str,
        notext: bool,
        channels: str,
        without: list[str],
        action_bounds: Sequence[Any] | None,
        resize: int | Sequence[int] | None,
    ) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(
            self,
            env_id=env_id,
            notext=notext,
            channels=channels,
            without=without,
            action_bounds=action_bounds,
            resize=resize,
        )
        gymnasium.Wrapper.__init__(self, env)
        self._id, self.around = env_id, Surroundings()
        self._single = not isinstance(env.observation_space, spaces.Dict | spaces.Tuple)
        found = dict(_leaves(env.observation_space, (), env_id))
        self._entries = self._chosen(found, notext, without, channels, side_of(resize))
        self._clipped = False
        if self._single:
            self.observation_space = self._entries[0].space
        else:
            self.observation_space = spaces.Dict({entry.key: entry.space for entry in self._entries})
        self._action_type = _action_type(env.action_space)
        try:
            self.action_space = _actions(env.action_space, action_bounds)
            ActionCodec(self.action_space)
        except ValueError as error:
            raise UnusableEnvironmentError(f"{env_id}: {error}") from error

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As gymnasium's; `info["events"]` is a list of words."""
        with self._theirs("reset()"):
            given = self.env.reset(seed=seed, options=options)
        observation, info = reset_result(given, self._id)
        return self._observe(observation), _plain(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As gymnasium's; reward and flags in plain types."""
        with self._theirs("step()"):
            given = self.env.step(self._action_type(action))
        observation, reward, terminated, truncated, info = step_result(given, self._id)
        return self._observe(observation), reward, terminated, truncated, _plain(info)

    def render(self) -> Any:
        """As gymnasium's."""
        with self.around:
            return self.env.render()

    def close(self) -> None:
        """As gymnasium's. An environment that fails while it closes loses nothing, so that is a warning."""
        try:
            with self.around:
                self.env.close()
        except Exception as error:
            warnings.warn(f"{self._id}: close() failed: {reason(error)}", stacklevel=2)

    def _theirs(self, doing: str) -> AbstractContextManager[None]:
        return theirs(self.around, self._id, doing)

    def _chosen(
        self,
        found: dict[str, tuple[tuple[Any, ...], Any]],
        notext: bool,
        without: list[str],
        channels: str,
        size: tuple[int, int] | None,
    ) -> list[_Entry]:
        unknown = [name for name in without if not any(_within(key, name) for key in found)]
        if unknown:
            raise UnusableEnvironmentError(
                f"{self._id}: without: there is no entry {unknown[0]!r}; there are {', '.join(found) or 'none'}"
            )
        entries = []
        for key, (path, space) in found.items():
            text = _is_text(space)
            if (notext and text) or any(_within(key, name) for name in without):
                continue
            name = key or "the observation"
            if text:
                advice = "leave it out with the view +notext" if len(found) > 1 else "observe numbers"
                raise UnusableEnvironmentError(
                    f"{self._id}: {name} is text, which no model here reads: {advice}"
                )
            try:
                given, convert = _array_form(space, channels, size)
                kind_of(given)
            except ValueError as error:
                raise UnusableEnvironmentError(f"{self._id}: {name}: {_short(error)}") from error
            entries.append(_Entry(key, path, space, given, convert))
        if not entries:
            raise UnusableEnvironmentError(f"{self._id}: nothing of the observation is left to learn from")
        return entries

    def _observe(self, observation: Any) -> Any:
        if self._single:
            return self._one(self._entries[0], observation)
        arrays = {}
        for entry in self._entries:
            value = observation
            for part in entry.path:
                try:
                    value = value[part]
                except (KeyError, IndexError, TypeError) as error:
                    raise UnusableEnvironmentError(
                        f"{self._id}: the observation lacks {entry.key!r}, which its space has"
                    ) from error
            arrays[entry.key] = self._one(entry, value)
        return arrays

    def _one(self, entry: _Entry, value: Any) -> Any:
        """One array, in its space's shape, type and bounds."""
        space, name = entry.given, entry.key or "the observation"
        if value is None:
            raise UnusableEnvironmentError(f"{self._id}: {name}: expected numbers ({space}), got None")
        try:
            array = np.asarray(value)
            with np.errstate(invalid="ignore", over="ignore"):
                cast = array.astype(space.dtype, copy=True)
        except (TypeError, ValueError) as error:
            raise UnusableEnvironmentError(
                f"{self._id}: {name}: expected numbers ({space}), got {type(value).__name__}"
            ) from error
        shape = space.shape or ()
        if cast.shape != shape and cast.size == 1 and np.prod(shape) == 1:
            array, cast = array.reshape(shape), cast.reshape(shape)
        if cast.shape != shape:
            raise UnusableEnvironmentError(f"{self._id}: {name}: expected shape {shape}, got {cast.shape}")
        if isinstance(space, spaces.Box):
            if space.dtype.kind == "f":
                # Infinity is not a value beyond the bounds but a fault: it stays, for who learns from it to stop at.
                infinite = np.isinf(array) if array.dtype.kind == "f" else np.zeros(cast.shape, bool)
                within = self._within_bounds(np.where(infinite, space.low, cast), space, name)
                cast = np.where(infinite, cast, within)
            else:
                # As it came: a cast wraps what lies beyond the type, and cuts fractions off.
                if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.trunc(array))).all():
                    raise UnusableEnvironmentError(
                        f"{self._id}: {name}: expected whole numbers ({space.dtype}), got {_fraction(array)}"
                    )
                if not np.array_equal(array, cast) or (cast < space.low).any() or (cast > space.high).any():
                    cast = self._within_bounds(array, space, name)
        elif not (array == cast).all() or not space.contains(cast if cast.ndim else cast.item()):
            raise UnusableEnvironmentError(f"{self._id}: {name}: {value!r} is not in {space}")
        converted = entry.convert(cast)
        return int(converted) if isinstance(space, spaces.Discrete) else converted

    def _within_bounds(self, array: Array, space: Any, name: str) -> Array:
        """Values beyond the space's bounds are clipped, with one warning: a service would refuse them."""
        clipped = np.clip(array, space.low, space.high)
        if not self._clipped and not np.array_equal(clipped, array, equal_nan=array.dtype.kind == "f"):
            self._clipped = True
            at = int(np.argmax(clipped != array))
            warnings.warn(
                f"{self._id}: {name} left its space: {array.flat[at]} is beyond {space.low.flat[at]} to "
                f"{space.high.flat[at]}; such values are clipped, widen the space where they matter",
                stacklevel=2,
            )
        return np.asarray(clipped, space.dtype)


def _fraction(array: Array) -> str:
    """The first number that is not whole."""
    return f"{array.flat[int(np.argmax(~np.isfinite(array) | (array != np.trunc(array))))]}"


def _leaves(
    space: Any, path: tuple[Any, ...], env_id: str
) -> Iterable[tuple[str, tuple[tuple[Any, ...], Any]]]:
    """(key, (path, space)) of every array; the key is the path's parts with slashes between."""
    seen: set[str] = set()
    for parts, leaf in _walk(space, path):
        key = "/".join(str(part) for part in parts)
        if key in seen:
            raise UnusableEnvironmentError(
                f"{env_id}: two entries of the observation would be called {key!r}"
            )
        seen.add(key)
        yield key, (parts, leaf)


def _walk(space: Any, path: tuple[Any, ...]) -> Iterable[tuple[tuple[Any, ...], Any]]:
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _walk(inner, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, inner in enumerate(space.spaces):
            yield from _walk(inner, (*path, index))
    else:
        yield path, space


def _is_text(space: Any) -> bool:
    """Whether a space holds text: gymnasium's Text, or one of another package's (MiniGrid's MissionSpace)."""
    known = ("Box", "Discrete", "MultiDiscrete", "MultiBinary", "Graph", "Sequence", "OneOf")
    if isinstance(space, spaces.Text) or type(space).__name__ in known:
        return isinstance(space, spaces.Text)
    try:
        return isinstance(space.sample(), str)
    except Exception:  # a space that cannot even be sampled is refused by its kind
        return False


def _within(key: str, name: str) -> bool:
    return key == name or key.startswith(name + "/")


def _array_form(
    space: Any, channels: str, size: tuple[int, int] | None
) -> tuple[Any, Callable[[Array], Array]]:
    """A leaf's space here, and what turns an array of the one into one of the other."""
    if not isinstance(space, spaces.Box):
        if type(space).__name__ not in ("Discrete", "MultiDiscrete", "MultiBinary"):
            raise ValueError(
                f"{type(space).__name__} observations cannot be learned from; leave it out or wrap it"
            )
        return space, np.asarray
    if np.dtype(space.dtype).name not in DTYPES:
        raise ValueError(f"numbers of type {space.dtype} cannot be read; expected one of {', '.join(DTYPES)}")
    steps: list[Callable[[Array], Array]] = []
    shape, first = space.shape, channels == "first"
    if len(shape) == 2 and is_frame(shape) and _pixels(space):
        steps.append(lambda x: x[..., None])
    elif len(shape) == 3 and first and is_frame(shape[1:]) and shape[0] <= MOST_CHANNELS:
        steps.append(lambda x: np.moveaxis(x, 0, -1))
    elif len(shape) == 4 and _pixels(space) and first and is_frame(shape[2:]):
        steps.append(lambda x: np.moveaxis(x.reshape(-1, *x.shape[2:]), 0, -1))
    elif len(shape) == 4 and _pixels(space) and is_frame(shape[1:3]) and shape[3] in (1, 3, 4):
        steps.append(lambda x: np.moveaxis(x, 0, -2).reshape(*x.shape[1:3], -1))
    if size is not None and space.dtype == np.uint8:
        steps.append(lambda x: resized(x, size))

    def convert(array: Array) -> Array:
        for step in steps:
            array = step(array)
        return np.asarray(array, order="C")

    if not steps:
        return space, convert
    low, high = convert(space.low), convert(space.high)
    return spaces.Box(low, high, low.shape, space.dtype), convert


def _pixels(space: Any) -> bool:
    return bool(space.dtype == np.uint8 and (space.low == 0).all() and (space.high == 255).all())


def _actions(space: Any, bounds: Sequence[Any] | None) -> Any:
    """The action space here: bounded, and a MultiDiscrete for a MultiBinary."""
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiDiscrete(np.full(space.shape, 2))
    if bounds is None or not isinstance(space, spaces.Box):
        if bounds is not None:
            raise ValueError(f"action_bounds: only a Box has bounds, the actions are {space}")
        return space
    try:
        low, high = (np.broadcast_to(np.asarray(b, np.float64), space.shape) for b in bounds)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"action_bounds: expected [low, high], each a number or one for each of {space.shape}, got {bounds!r}"
        ) from error
    low, high = np.maximum(low, space.low), np.minimum(high, space.high)
    if space.dtype.kind in "iu":  # the whole numbers between; a bound beyond the type says nothing
        low, high = np.ceil(low), np.floor(high)
    if not (low < high).all():
        raise ValueError(f"action_bounds: {bounds!r} leaves nothing of {space}")
    return spaces.Box(low.astype(space.dtype), high.astype(space.dtype), space.shape, space.dtype)


def _action_type(space: Any) -> Callable[[Any], Any]:
    """What turns an action of ours into one in the environment's own type."""
    if isinstance(space, spaces.Discrete):
        return int
    return lambda action: np.asarray(action, space.dtype).reshape(space.shape)


def _plain(info: Mapping[str, Any]) -> dict[str, Any]:
    """`events` a list of words, `success` a truth value or absent (`is_success` counts too)."""
    events, success = info.get("events", ()), info.get("success", info.get("is_success"))
    plain = {key: value for key, value in info.items() if key not in ("events", "success")}
    plain["events"] = [str(event) for event in events] if isinstance(events, list | tuple | set) else []
    if isinstance(success, bool | int | float | np.bool_ | np.integer | np.floating):
        plain["success"] = bool(success)
    return plain


def _short(error: ValueError) -> str:
    return str(error).removeprefix("observation space: ")
