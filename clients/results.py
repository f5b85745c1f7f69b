"""What the service answers, as frozen dataclasses; fields that an answer lacks are None.

The readers take decoded bodies (``bodies.decode_arrays``) of either encoding, HTTP or gRPC, and use the
session's spaces to give actions and observations their dtype and shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from thick.spaces import Box, Dict, Discrete, MultiDiscrete, Space, parse_space

Action = int | np.ndarray
"""an int for Discrete spaces, an array of the space's dtype and shape for Box"""

Observation = Any
"""an array, or a dict of arrays for Dict spaces"""


@dataclass(frozen=True)
class Model:
    """One checkpoint that the service hosts."""

    name: str
    version: str
    kind: str
    state: str
    """``ready``, ``loading``, ``failed`` or ``unloaded``"""
    task: str | None = None
    """environment id it was trained for"""
    reason: str | None = None
    """why it failed"""
    backend: str | None = None
    """what runs it: native, onnx or torch; None while it is not loaded, and with servers that do not say"""
    observation_space: Space | None = None
    action_space: Space | None = None
    planner: Mapping[str, Any] | None = None
    methods: Sequence[str] = ()
    """what it can act by: hierarchical, flat, policy; empty in a list of models, and while it is not loaded"""
    provenance: Mapping[str, Any] | None = None
    versions: Sequence[Any] = ()
    other: Mapping[str, Any] = field(default_factory=dict)
    """members that this client does not know"""

    @property
    def env_options(self) -> Mapping[str, Any]:
        """Of its task: ``thick.envs.make(model.task, **model.env_options)``; empty in a list of models."""
        return self.other.get("env_options") or {}


@dataclass(frozen=True)
class SessionInfo:
    """A session as the server sees it."""

    session_id: str
    model: str
    version: str
    step: int
    observation_space: Space | None = None
    """None while its model is not loaded: the server is starting, or unloaded it"""
    action_space: Space | None = None
    planner: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HighPlan:
    """What the search over high-level actions found, from the root."""

    actions: Sequence[int] = ()
    durations: Sequence[float] = ()
    """expected low-level steps of each action"""
    values: Sequence[float] = ()
    visits: Sequence[int] = ()
    """visits of the root's actions"""
    subgoal: Observation = None
    """decoded observation that the low level steers to"""
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LowPlan:
    """What the low-level search found."""

    actions: Sequence[Action] = ()
    expected_return: float | None = None
    samples: int | None = None
    iterations: int | None = None
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """How much of the search was done before the deadline."""

    deadline_ms: float | None = None
    iterations_done: int | None = None
    iterations_asked: int | None = None
    simulations_done: int | None = None
    simulations_asked: int | None = None
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Why an action was chosen."""

    method: str
    replanned: bool = False
    context_changed: bool = False
    gates_open: int = 0
    high: HighPlan | None = None
    low: LowPlan | None = None
    levels: Sequence[LowPlan | HighPlan] = ()
    """the plan of each level, lowest first: ``low``, ``high`` and whatever is above them"""
    budget: Budget | None = None
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """Where the server's time went, in milliseconds."""

    decode_ms: float | None = None
    queue_ms: float | None = None
    observe_ms: float | None = None
    high_plan_ms: float | None = None
    low_plan_ms: float | None = None
    encode_ms: float | None = None
    total_ms: float | None = None
    batch_size: int | None = None
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """The answer to an act: the action, and why."""

    session_id: str
    step: int
    action: Action
    replayed: bool = False
    """whether the server had answered this step before"""
    plan: Plan | None = None
    timing: Timing | None = None
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImaginedStep:
    """One imagined step, of the high level (first group of fields) or the low level (second group)."""

    high_action: int | None = None
    probability: float | None = None
    duration: float | None = None
    time: float | None = None
    subgoal: Observation = None
    """decoded, just before the context changes"""
    action: Action | None = None
    gates_open: int | None = None
    context_changed: bool | None = None
    reward: float | None = None
    return_: float | None = None
    value: float | None = None
    continuation: float | None = None
    observation: Observation = None
    """decoded; at the high level just after the context changed"""
    rollout: int = 0
    index: int = 0
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rollout:
    """One imagined future."""

    steps: Sequence[ImaginedStep] = ()
    probability: float | None = None
    return_: float | None = None
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Imagination:
    """The answer to imagine."""

    level: str
    rollouts: Sequence[Rollout] = ()
    other: Mapping[str, Any] = field(default_factory=dict)


def read_model(tree: Mapping[str, Any]) -> Model:
    """One model of a list, or in detail."""
    spaces = {
        key: parse_space(tree[key], path=key, exact=False)
        for key in ("observation_space", "action_space")
        if tree.get(key)
    }
    return record(Model, tree, **spaces)


def read_session(tree: Mapping[str, Any]) -> SessionInfo:
    """A session."""
    rest, known = resource(tree)
    return record(SessionInfo, rest, **known)


def resource(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a session or a dream says of itself: as it travels, and what is read from it."""
    expires, names = tree.get("expires_at"), ("observation_space", "action_space")
    known: dict[str, Any] = {
        name: parse_space(tree[name], path=name, exact=False) for name in names if tree.get(name)
    }
    known["expires_at"] = datetime.fromisoformat(expires) if isinstance(expires, str) else None
    return {name: value for name, value in tree.items() if name not in (*names, "expires_at")}, known


def read_decision(tree: Mapping[str, Any], observations: Space | None, actions: Space | None) -> Decision:
    """The answer to an act; without spaces, arrays come as they travelled."""
    plan, timing = tree.get("plan"), tree.get("timing")
    return record(
        Decision,
        tree,
        action=read_action(tree["action"], actions),
        plan=_read_plan(plan, observations, actions) if plan else None,
        timing=record(Timing, timing) if timing else None,
    )


def _read_plan(tree: Mapping[str, Any], observations: Space | None, actions: Space | None) -> Plan:
    high, low, budget = tree.get("high"), tree.get("low"), tree.get("budget")
    levels = [{k: v for k, v in level.items() if k != "level"} for level in tree.get("levels") or ()]
    return record(
        Plan,
        tree,
        high=_read_high_plan(high, observations) if high else None,
        low=_read_low_plan(low, actions) if low else None,
        levels=[
            _read_high_plan(level, observations) if index else _read_low_plan(level, actions)
            for index, level in enumerate(levels)
        ],
        budget=record(Budget, budget) if budget else None,
    )


def _read_low_plan(tree: Mapping[str, Any], actions: Space | None) -> LowPlan:
    return record(LowPlan, tree, actions=_read_actions(tree.get("actions"), actions))


def _read_high_plan(tree: Mapping[str, Any], observations: Space | None) -> HighPlan:
    return record(HighPlan, tree, subgoal=read_observation(tree.get("subgoal"), observations))


def _read_actions(value: Any, space: Space | None) -> Sequence[Action]:
    return [read_action(action, space) for action in value] if value is not None else ()


def read_imagination(
    tree: Mapping[str, Any], observations: Space | None, actions: Space | None
) -> Imagination:
    """The answer to imagine."""
    rollouts = [
        record(
            Rollout,
            rollout,
            return_=rollout.get("return"),
            steps=[
                read_step({"rollout": r, "index": i, **step}, observations, actions)
                for i, step in enumerate(rollout.get("steps", ()))
            ],
        )
        for r, rollout in enumerate(tree.get("rollouts", ()))
    ]
    return record(Imagination, tree, rollouts=rollouts)


def read_step(tree: Mapping[str, Any], observations: Space | None, actions: Space | None) -> ImaginedStep:
    """One imagined step, of an answer or of a stream."""
    action = tree.get("action")
    return record(
        ImaginedStep,
        tree,
        return_=tree.get("return"),
        action=read_action(action, actions) if action is not None else None,
        subgoal=read_observation(tree.get("subgoal"), observations),
        observation=read_observation(tree.get("observation"), observations),
    )


def read_action(value: Any, space: Space | None) -> Action:
    """An action in the space's type."""
    if isinstance(space, Discrete) or (space is None and isinstance(value, int)):
        return int(np.asarray(value).item())
    if isinstance(space, Box):
        return np.asarray(value, space.dtype).reshape(space.shape)
    if isinstance(space, MultiDiscrete):
        return np.asarray(value, np.int64).reshape(space.shape)
    return np.asarray(value)


def read_observation(value: Any, space: Space | None) -> Observation:
    """A decoded observation in the space's shape and dtype; without a space as it travelled."""
    if value is None or space is None:
        return value
    if isinstance(space, Dict):
        return {
            key: read_observation(value[key], inner) for key, inner in space.spaces.items() if key in value
        }
    array = np.asarray(value)
    if not isinstance(space, Box):
        return array
    if space.dtype.kind in "iu" and array.dtype.kind == "f":
        return np.clip(np.rint(array), space.low, space.high).astype(space.dtype).reshape(space.shape)
    return array.astype(space.dtype, copy=False).reshape(space.shape)


Record = TypeVar("Record")


def record(kind: type[Record], tree: Mapping[str, Any], **read: Any) -> Record:
    """The dataclass ``kind`` from the members of ``tree``; unknown ones go to ``other``."""
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    known = {
        key: value for key, value in tree.items() if key in names and value is not None and key != "other"
    }
    unknown = {key: v for key, v in tree.items() if key not in names and key != "return"}
    known.update({key: value for key, value in read.items() if value is not None})
    return kind(**known, **{"other": unknown})
