"""What a message of the openpi policy protocol means here: which part is the observation, and what else it
says about the act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np

from service.protocol.errors import FieldError, invalid, invalid_fields
from thick.spaces import Box, Dict, Discrete, Space, describe

OBSERVATION = "observation"
MAX_CHUNK = 1000

_CONTROL = ("step", "reward", "is_first", "executed_action", "planner")
"""members that say something about the act, unless the model's observations have an entry of that name"""
_SILENT = ("prompt",)
"""what openpi's clients send along for models that read language; ours do not"""
_SESSION = ("model", "version", "seed", "ttl_s")


class Address(NamedTuple):
    """What the address asks for: ``/openpi?model=NAME&seed=3&method=flat&chunk=8``."""

    session: dict[str, Any]
    """fields of a new session: model, version, seed, ttl_s, planner"""
    session_id: str | None
    """of a session to go on with, instead"""
    chunk: int
    """actions in an answer, at most"""


class Message(NamedTuple):
    """One message of a client."""

    observation: Any
    about: dict[str, Any]
    """step, reward, is_first, executed_action, planner: as in an act"""
    ignored: list[str]
    """names of members that mean nothing to this model"""


def read_address(query: str) -> Address:
    """The address's query. Parameters that are none of the session's are planner settings.

    Raises:
        ProblemError: ``invalid_request``.
    """
    values: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in values:
            raise invalid(name, "is given twice")
        values[name] = text if name in ("model", "version", "session_id") else _value(text)
    chunk = values.pop("chunk", 1)
    if type(chunk) is not int or not 1 <= chunk <= MAX_CHUNK:
        raise invalid("chunk", f"expected a number of actions from 1 to {MAX_CHUNK}, got {chunk!r}")
    session_id = values.pop("session_id", None)
    session = {name: values.pop(name) for name in _SESSION if name in values}
    if values:
        session["planner"] = values
    if session_id is not None and session.keys() - {"model"}:
        raise invalid("session_id", f"the session has its own {', '.join(sorted(session))}; leave that out")
    return Address(session, session_id, chunk)


def read_message(message: Mapping[str, Any], observations: Space, actions: Space) -> Message:
    """The observation in a message, and what it says about the act.

    The observation is the member ``observation``; or, where there is none, the message itself, with or
    without ``observation/`` before its names, as openpi's policies have them. Where the model observes a
    single array, it is the only array of the message, or the only one of the right shape.

    Raises:
        ProblemError: ``invalid_request``, where the observation is ambiguous.
    """
    entries = observations.spaces if isinstance(observations, Dict) else {}
    rest = dict(message)
    if OBSERVATION in rest and OBSERVATION not in entries:
        observation = rest.pop(OBSERVATION)
    else:
        names = {name: name.removeprefix(OBSERVATION + "/") for name in rest}
        if isinstance(observations, Dict):
            observation = {names[name]: rest.pop(name) for name in list(rest) if names[name] in entries}
        else:
            observation = rest.pop(_only_array(rest, observations))
    about = {name: _plain(rest.pop(name)) for name in _CONTROL if name in rest}
    if "executed_action" in about:
        about["executed_action"] = _one_action(about["executed_action"], actions)
    ignored = sorted(name for name in rest if name not in _SILENT)
    missing = [name for name in entries if isinstance(observation, Mapping) and name not in observation]
    if missing and ignored:
        raise invalid_fields(
            FieldError(
                f"observation.{name}",
                f"is missing: {describe(entries[name])}; the message also has {', '.join(ignored)[:200]}",
            )
            for name in missing
        )
    return Message(observation, about, ignored)


def chunk_of(answer: Mapping[str, Any], actions: Space, count: int) -> np.ndarray:
    """The actions to take: the chosen one, and those that the plan has after it.

    Args:
        answer: of an act, with its plan where ``count`` is above 1.
        count: actions at most.

    Returns:
        ``[H, A]`` float32, or ``[H, 1]`` int64 for a Discrete action; ``H`` from 1 to ``count``.
    """
    plan = answer.get("plan") or {}
    planned = (plan.get("low") or {}).get("actions") or []
    chosen = [answer["action"], *planned[1:count]]
    if isinstance(actions, Discrete):
        return np.asarray(chosen, np.int64).reshape(-1, 1)
    return np.stack([np.asarray(action, np.float32).ravel() for action in chosen])


def _only_array(message: Mapping[str, Any], space: Space) -> str:
    """The name of the array that is the observation."""
    arrays = {
        name: np.shape(value)
        for name, value in message.items()
        if name not in _CONTROL and isinstance(value, (np.ndarray, list))
    }
    if len(arrays) == 1:
        return next(iter(arrays))
    fitting = [name for name, shape in arrays.items() if isinstance(space, Box) and shape == space.shape]
    if len(fitting) == 1:
        return fitting[0]
    found = ", ".join(f"{name} {shape}" for name, shape in arrays.items())[:400] or "no array"
    raise invalid(
        OBSERVATION,
        f"expected {describe(space)} under this name; found {found}: ambiguous",
    )


def _one_action(value: Any, space: Space) -> Any:
    """An executed action, also in the form in which it was answered: ``[1, A]`` or ``[1]``."""
    if isinstance(value, (np.ndarray, list)):
        array = np.asarray(value)
        if isinstance(space, Discrete) and array.size == 1 and array.dtype.kind in "iu":
            return int(array.item())
        if isinstance(space, Box) and array.shape == (1, *space.shape):
            return array[0]
    return value


def _plain(value: Any) -> Any:
    """A scalar out of an array that holds one."""
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _value(text: str) -> Any:
    """A number or truth value, where the text is one."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
