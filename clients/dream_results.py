"""What the service answers about dreams, as frozen dataclasses; see :mod:`clients.results`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from clients.results import Observation, read_observation, record, resource
from thick.spaces import Box, Dict, Space


@dataclass(frozen=True)
class DreamInfo:
    """A dream as the server sees it: some imagined environments of one model, stepped together."""

    dream_id: str
    model: str
    version: str
    count: int
    step: int
    observation: Observation = None
    """of each environment: an array ``[count, ...]``, or a dict of such for Dict spaces; None in a list of dreams"""
    observation_space: Space | None = None
    action_space: Space | None = None
    expires_at: datetime | None = None
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DreamtStep:
    """One step of a dream; arrays over its environments ``[count]``."""

    dream_id: str
    step: int
    reward: np.ndarray
    """float32"""
    continuation: np.ndarray
    """float32, probability that the episode goes on"""
    terminated: np.ndarray
    """bool"""
    observation: Observation = None
    """``[count, ...]`` as in :class:`DreamInfo`; None where it was not asked for"""
    value: np.ndarray | None = None
    """float32, expected return from here on by the critic; NaN where an episode has just begun"""
    gates_open: np.ndarray | None = None
    context_changed: np.ndarray | None = None
    replayed: bool = False
    other: Mapping[str, Any] = field(default_factory=dict)


def read_dream(tree: Mapping[str, Any]) -> DreamInfo:
    """A dream."""
    rest, known = resource(tree)
    space, single, whole = (
        known.get("observation_space"), rest.pop("observation", None), rest.pop("observations", None),
    )  # fmt: skip
    shown = _stacked(single, space) if whole is None and single else _read_all(whole, space)
    return record(DreamInfo, rest, **known, observation=shown)


def read_dreamt_step(tree: Mapping[str, Any], observations: Space | None) -> DreamtStep:
    """A step of a dream."""
    kinds = {"reward": np.float32, "continuation": np.float32, "terminated": np.bool_, "value": np.float32,
             "gates_open": np.int64, "context_changed": np.bool_}  # fmt: skip
    arrays: dict[str, Any] = {
        name: np.array(tree[name], kind) for name, kind in kinds.items() if tree.get(name) is not None
    }
    if (shown := tree.get("observations")) is not None:
        arrays["observation"] = _read_all(shown, observations)
    rest = {name: value for name, value in tree.items() if name not in ("observation", "observations")}
    return record(DreamtStep, rest, **arrays)


def _read_all(value: Any, space: Space | None) -> Observation:
    """Observations of all environments in one array ``[count, ...]``, or in a dict of such, in the space's types."""
    if isinstance(value, Mapping):
        inner = space.spaces if isinstance(space, Dict) else {}
        return {key: _read_all(part, inner.get(key)) for key, part in value.items()}
    dtype = space.dtype if isinstance(space, Box) else np.int64 if space is not None else None
    return None if value is None else np.array(value, dtype)  # one that may be written to


def _stacked(values: Sequence[Any], space: Space | None) -> Observation:
    """The same of observations one by one."""
    read = [read_observation(value, space) for value in values]
    if isinstance(read[0], Mapping):
        return {key: np.stack([each[key] for each in read]) for key in read[0]}
    return np.stack(read)
