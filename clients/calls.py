"""The requests of the contract, each written once and carried by any transport.

A :class:`Call` says what is asked (HTTP verb and path, gRPC method and message), how its answer is read, and
whether it may be sent again when an answer was lost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import numpy as np

from clients import dream_results, results
from service.protocol.bodies import decode_arrays
from service.protocol.errors import ProblemError, invalid
from thick.spaces import Space

Result = TypeVar("Result")


@dataclass(frozen=True)
class Call(Generic[Result]):
    """One request of the contract."""

    asked: str
    """for people: ``act on session 3f2a (step 7)``"""
    verb: str
    path: str
    rpc: str
    """method of ``thick.v1.Planner``; its request is ``names`` and ``body`` together"""
    read: Callable[[Any], Result]
    """from the decoded answer"""
    names: Mapping[str, Any] = field(default_factory=dict)
    """what the path names: the session, the model"""
    body: Mapping[str, Any] | bytes | None = None
    repeatable: bool = True
    """whether sending it again after a lost answer does nothing twice"""
    gone_is_done: bool = False
    """whether 404 after a lost answer means that it worked"""

    @property
    def about(self) -> str | None:
        """The session or dream that is asked, or started from: a cluster sends what is about one to one replica."""
        body = {} if self.body is None or isinstance(self.body, bytes) else self.body
        for names in (self.names, body):
            for name in ("session_id", "dream_id"):
                if is_id(names.get(name)):
                    return str(names[name])
        return None


def is_id(value: Any) -> bool:
    """Whether a session or dream may be called that; anything else is left for the service to refuse."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _nothing(tree: Any) -> None:
    return None


def list_models() -> Call[list[results.Model]]:
    """``GET /v1/models``"""
    return Call(
        "list the models", "GET", "/v1/models", "ListModels",
        lambda tree: [results.read_model(model) for model in tree["models"]],
    )  # fmt: skip


def get_model(name: str, version: str | None = None) -> Call[results.Model]:
    """``GET /v1/models/{name}``"""
    what = name if version is None else f"{name} {version}"
    query = "" if version is None else f"?version={quote(version, safe='')}"
    return Call(
        f"describe model {what}", "GET", f"/v1/models/{_part(name)}{query}", "GetModel", results.read_model,
        names=_sent(name=name, version=version),
    )  # fmt: skip


def control_model(name: str, version: str | None, *, load: bool) -> Call[results.Model | None]:
    """``POST /v1/models/{name}/load`` and ``/unload``"""
    verb = "load" if load else "unload"

    def read(tree: Any) -> results.Model | None:
        return results.read_model(tree) if isinstance(tree, Mapping) and "state" in tree else None

    return Call(
        f"{verb} model {name}", "POST", f"/v1/models/{_part(name)}/{verb}", f"{verb.title()}Model", read,
        names={"name": name}, body=_sent(version=version),
    )  # fmt: skip


def create_session(
    model: str, version: str | None, seed: int | None, planner: Mapping[str, Any] | None, ttl_s: float | None
) -> Call[results.SessionInfo]:
    """``POST /v1/sessions``"""
    return Call(
        f"create a session of model {model}", "POST", "/v1/sessions", "CreateSession", results.read_session,
        body=_sent(model=model, version=version, seed=seed, planner=planner or None, ttl_s=ttl_s),
        repeatable=False,
    )  # fmt: skip


def restore_session(belief: bytes) -> Call[results.SessionInfo]:
    """``POST /v1/sessions`` with a belief"""
    return Call(
        "restore a session", "POST", "/v1/sessions", "RestoreSession", results.read_session, body=belief,
        repeatable=False,
    )  # fmt: skip


def list_sessions() -> Call[list[results.SessionInfo]]:
    """``GET /v1/sessions``"""
    return Call(
        "list the sessions", "GET", "/v1/sessions", "ListSessions",
        lambda tree: [results.read_session(session) for session in tree["sessions"]],
    )  # fmt: skip


def get_session(session_id: str) -> Call[results.SessionInfo]:
    """``GET /v1/sessions/{id}``"""
    return Call(
        f"describe session {session_id}", "GET", _session(session_id), "GetSession", results.read_session,
        names={"session_id": session_id},
    )  # fmt: skip


def delete_session(session_id: str) -> Call[None]:
    """``DELETE /v1/sessions/{id}``"""
    return Call(
        f"delete session {session_id}", "DELETE", _session(session_id), "DeleteSession", _nothing,
        names={"session_id": session_id}, gone_is_done=True,
    )  # fmt: skip


def reset_session(session_id: str) -> Call[None]:
    """``POST /v1/sessions/{id}/reset``"""
    return Call(
        f"reset session {session_id}", "POST", _session(session_id, "reset"), "ResetSession", _nothing,
        names={"session_id": session_id},
    )  # fmt: skip


def fork_session(session_id: str, seed: int | None) -> Call[results.SessionInfo]:
    """``POST /v1/sessions/{id}/fork``"""
    return Call(
        f"fork session {session_id}", "POST", _session(session_id, "fork"), "ForkSession",
        results.read_session,
        names={"session_id": session_id}, body=_sent(seed=seed), repeatable=False,
    )  # fmt: skip


def export_belief(session_id: str) -> Call[bytes]:
    """``GET /v1/sessions/{id}/belief``"""
    return Call(
        f"export the belief of session {session_id}", "GET", _session(session_id, "belief"), "ExportBelief",
        lambda tree: tree if isinstance(tree, bytes) else bytes(tree["data"]),
        names={"session_id": session_id},
    )  # fmt: skip


def act(info: results.SessionInfo, step: int, body: Mapping[str, Any]) -> Call[results.Decision]:
    """``POST /v1/sessions/{id}/act``; the step makes it exactly-once, so it may always be sent again"""
    return Call(
        f"act on session {info.session_id} (step {step})", "POST", _session(info.session_id, "act"), "Act",
        _decision_reader(info.observation_space, info.action_space), names={"session_id": info.session_id},
        body={**body, "step": step},
    )  # fmt: skip


def act_once(body: Mapping[str, Any]) -> Call[results.Decision]:
    """``POST /v1/act``"""
    named = body.get("session_id") or f"a new session of {body.get('model')}"
    repeatable = body.get("session_id") is not None and body.get("step") is not None
    return Call(
        f"act on {named}", "POST", "/v1/act", "Act", _decision_reader(None, None), body=body,
        repeatable=repeatable,
    )  # fmt: skip


def imagine(info: results.SessionInfo, body: Mapping[str, Any]) -> Call[results.Imagination]:
    """``POST /v1/sessions/{id}/imagine``"""
    return Call(
        f"imagine in session {info.session_id}", "POST", _session(info.session_id, "imagine"), "Imagine",
        _imagination_reader(info.observation_space, info.action_space), names={"session_id": info.session_id},
        body=body,
    )  # fmt: skip


def imagine_once(model: results.Model, body: Mapping[str, Any]) -> Call[results.Imagination]:
    """``POST /v1/imagine``"""
    return Call(
        f"imagine with model {model.name}", "POST", "/v1/imagine", "Imagine",
        _imagination_reader(model.observation_space, model.action_space), body={**body, "model": model.name},
    )  # fmt: skip


_WHOLE = {"include": ("observations",)}
"""all environments in one array: much less to pack and to read than one for each"""


def create_dream(**asked: Any) -> Call[dream_results.DreamInfo]:
    """``POST /v1/dreams``"""
    of = next(
        (f"{name} {asked[name]}" for name in ("dream_id", "session_id", "model") if asked.get(name)), ""
    )
    return Call(
        f"dream of {of.replace('_id', '')}".strip(), "POST", "/v1/dreams", "Dream", _read_dream,
        body={**_sent(**asked), **_WHOLE}, repeatable=False,
    )  # fmt: skip


def get_dream(dream_id: str) -> Call[dream_results.DreamInfo]:
    """``GET /v1/dreams/{id}``"""
    return Call(
        f"look at dream {dream_id}", "GET", _dream(dream_id), "GetDream", _read_dream,
        names={"dream_id": dream_id},
    )  # fmt: skip


def list_dreams() -> Call[list[dream_results.DreamInfo]]:
    """``GET /v1/dreams``"""
    return Call(
        "list the dreams", "GET", "/v1/dreams", "ListDreams",
        lambda tree: [_read_dream(dream) for dream in tree.get("dreams", ())],
    )  # fmt: skip


def step_dream(
    info: dream_results.DreamInfo, step: int, body: Mapping[str, Any]
) -> Call[dream_results.DreamtStep]:
    """``POST /v1/dreams/{id}/step``; the step makes it exactly-once, so it may always be sent again"""
    return Call(
        f"step dream {info.dream_id} (step {step})", "POST", _dream(info.dream_id, "step"), "DreamStep",
        lambda tree: dream_results.read_dreamt_step(decode_arrays(tree), info.observation_space),
        names={"dream_id": info.dream_id}, body={**_sent(**body), "step": step},
    )  # fmt: skip


def reset_dream(dream_id: str, indices: Any, seed: int | None) -> Call[dream_results.DreamInfo]:
    """``POST /v1/dreams/{id}/reset``"""
    return Call(
        f"reset dream {dream_id}", "POST", _dream(dream_id, "reset"), "ResetDream", _read_dream,
        names={"dream_id": dream_id}, body={**_sent(indices=indices, seed=seed), **_WHOLE},
    )  # fmt: skip


def fork_dream(dream_id: str, seed: int | None) -> Call[dream_results.DreamInfo]:
    """``POST /v1/dreams/{id}/fork``"""
    return Call(
        f"fork dream {dream_id}", "POST", _dream(dream_id, "fork"), "ForkDream", _read_dream,
        names={"dream_id": dream_id}, body=_sent(seed=seed), repeatable=False,
    )  # fmt: skip


def delete_dream(dream_id: str) -> Call[None]:
    """``DELETE /v1/dreams/{id}``"""
    return Call(
        f"delete dream {dream_id}", "DELETE", _dream(dream_id), "DeleteDream", _nothing,
        names={"dream_id": dream_id}, gone_is_done=True,
    )  # fmt: skip


def step_reader(info: results.SessionInfo) -> Callable[[Any], results.ImaginedStep]:
    """Reads the steps of a stream."""
    return lambda tree: results.read_step(decode_arrays(tree), info.observation_space, info.action_space)


def imagine_body(options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an imagination: what was asked, without what was left to the server."""
    return _sent(**{**options, "actions": _as_lists(options.get("actions"))})


def _as_lists(actions: Any) -> Any:
    """Actions to imagine, without arrays: the contract has lists of them, or of lists for each rollout."""
    if isinstance(actions, np.ndarray):
        return actions.tolist()
    return [_as_lists(each) for each in actions] if isinstance(actions, (list, tuple)) else actions


def act_body(
    observation: Any,
    *,
    reward: float | None = None,
    is_first: bool | None = None,
    executed_action: Any = None,
    planner: Mapping[str, Any] | None = None,
    deadline_ms: float | None = None,
    include: Any = (),
) -> dict[str, Any]:
    """The body of an act, but for its step."""
    merged = _sent(**{**(planner or {}), **_sent(deadline_ms=deadline_ms)})
    sent = _sent(reward=reward, is_first=is_first, executed_action=executed_action, planner=merged or None)
    return {"observation": observation, **sent, "include": list(include)}


def _decision_reader(observations: Space | None, actions: Space | None) -> Callable[[Any], results.Decision]:
    return lambda tree: results.read_decision(decode_arrays(tree), observations, actions)


def _imagination_reader(
    observations: Space | None, actions: Space | None
) -> Callable[[Any], results.Imagination]:
    return lambda tree: results.read_imagination(decode_arrays(tree), observations, actions)


def _read_dream(tree: Any) -> dream_results.DreamInfo:
    return dream_results.read_dream(decode_arrays(tree))


def out_of_range(call: Call[Any]) -> ValueError | None:
    """What to raise, before it is sent, for a call with a whole number that no message can hold; None without one."""

    def found(tree: Any, path: str) -> Iterator[str]:
        if isinstance(tree, Mapping):
            for key, value in tree.items():
                yield from found(value, f"{path}.{key}" if path else str(key))
        # Below 2**64 HTTP can send it, and the service says what it takes.
        elif isinstance(tree, int) and not -(2**63) <= tree < 2**64:
            yield f"{path}: expected a whole number from -2**63 to 2**63 - 1, got {tree}"

    wrong = "; ".join(found(call.body, "")) if isinstance(call.body, Mapping) else ""
    return ValueError(f"{call.asked}: {wrong}") if wrong else None


def not_finite(call: Call[Any]) -> ProblemError | None:
    """The problem of a call with a number that is none (NaN, infinity) outside an array; None without one.

    It would travel as null or not at all, and these mean something else: no deadline, the setting's default.
    """
    path = _not_finite(call.body) if isinstance(call.body, Mapping) else None
    return None if path is None else invalid(path.lstrip("."), "expected a finite number")


def _not_finite(tree: Any) -> str | None:
    """Where the first such number is."""
    if isinstance(tree, (float, np.floating)):
        return None if math.isfinite(tree) else ""
    items: Iterable[tuple[str, Any]]
    if isinstance(tree, Mapping):
        items = ((f".{key}", value) for key, value in tree.items())
    elif isinstance(tree, (list, tuple)):
        kinds = set(map(type, tree))
        if kinds == {int} or (kinds == {float} and all(map(math.isfinite, tree))):
            return None
        items = ((f"[{place}]", value) for place, value in enumerate(tree))
    else:
        return None
    return next((f"{name}{path}" for name, item in items if (path := _not_finite(item)) is not None), None)


def _sent(**members: Any) -> dict[str, Any]:
    return {key: value for key, value in members.items() if value is not None}


def _session(session_id: str, action: str = "") -> str:
    return f"/v1/sessions/{_part(session_id)}" + (f"/{action}" if action else "")


def _dream(dream_id: str, action: str = "") -> str:
    return f"/v1/dreams/{_part(dream_id)}" + (f"/{action}" if action else "")


def _part(name: str) -> str:
    """One segment of a path; one of dots alone would be taken for a way up."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")
