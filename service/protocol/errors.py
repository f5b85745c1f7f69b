"""Errors that travel: RFC 9457 problems with a stable code, the same over HTTP and gRPC.

A problem's HTTP form is ``application/problem+json``; over gRPC the same JSON is in the trailing metadata
under :data:`GRPC_PROBLEM_KEY`, with the status code of the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from thick.nearest import nearest

GRPC_PROBLEM_KEY = "thick-problem-bin"
"""trailing metadata key that carries the problem (JSON, UTF-8) over gRPC"""

MAX_ERRORS = 20
"""the most wrong fields that one problem reports; whoever has more than that wrong needs the first few"""

TYPE_PREFIX = "urn:thick:problem:"
"""a problem's ``type`` is this prefix and its code"""


@dataclass(frozen=True)
class Kind:
    """One row of the table: what a problem code means to HTTP and to gRPC."""

    status: int
    grpc: str
    """name of the ``grpc.StatusCode``"""
    title: str
    retry: bool = False
    """whether the same request may succeed later (the answer then carries ``Retry-After``)"""


PROBLEMS: dict[str, Kind] = {
    "invalid_request": Kind(422, "INVALID_ARGUMENT", "The request is not valid"),
    "malformed_body": Kind(422, "INVALID_ARGUMENT", "The body cannot be read"),
    "unsupported_method": Kind(422, "INVALID_ARGUMENT", "The checkpoint cannot plan this way"),
    "invalid_belief": Kind(422, "INVALID_ARGUMENT", "The belief cannot be restored"),
    "unauthenticated": Kind(401, "UNAUTHENTICATED", "An API key is required"),
    "forbidden": Kind(403, "PERMISSION_DENIED", "The API key does not allow this"),
    "admin_disabled": Kind(403, "PERMISSION_DENIED", "Loading and unloading over the network is off"),
    "watching_disabled": Kind(403, "PERMISSION_DENIED", "Watching sessions is off"),
    "not_found": Kind(404, "NOT_FOUND", "There is no such resource"),
    "model_not_found": Kind(404, "NOT_FOUND", "There is no such model"),
    "session_not_found": Kind(404, "NOT_FOUND", "There is no such session"),
    "dream_not_found": Kind(404, "NOT_FOUND", "There is no such dream"),
    "method_not_allowed": Kind(405, "UNIMPLEMENTED", "The resource does not answer this method"),
    "not_acceptable": Kind(406, "INVALID_ARGUMENT", "None of the accepted media types can be answered"),
    "request_timeout": Kind(408, "DEADLINE_EXCEEDED", "The request did not arrive in time", retry=True),
    "step_conflict": Kind(409, "ABORTED", "The step is not the one that is expected"),
    "conflict": Kind(409, "ABORTED", "The resource is not in a state that allows this"),
    "dream_ended": Kind(409, "ABORTED", "An episode of the dream has ended"),
    "session_expired": Kind(410, "FAILED_PRECONDITION", "The session has expired"),
    "dream_expired": Kind(410, "FAILED_PRECONDITION", "The dream has expired"),
    "body_too_large": Kind(413, "RESOURCE_EXHAUSTED", "The body is too large"),
    "answer_too_large": Kind(413, "RESOURCE_EXHAUSTED", "The answer is larger than the client takes"),
    "unsupported_media_type": Kind(415, "INVALID_ARGUMENT", "The media type of the body is not supported"),
    "queue_full": Kind(429, "RESOURCE_EXHAUSTED", "The queue is full", retry=True),
    "too_many_sessions": Kind(429, "RESOURCE_EXHAUSTED", "There are too many sessions", retry=True),
    "too_many_dreams": Kind(429, "RESOURCE_EXHAUSTED", "There are too many dreams", retry=True),
    "cancelled": Kind(499, "CANCELLED", "The client gave the request up"),
    "internal": Kind(500, "INTERNAL", "The service failed"),
    "draining": Kind(503, "UNAVAILABLE", "The service is shutting down", retry=True),
    "model_not_ready": Kind(503, "UNAVAILABLE", "The model is not ready", retry=True),
    "store_unavailable": Kind(503, "UNAVAILABLE", "The session store does not answer", retry=True),
    "deadline_exceeded": Kind(504, "DEADLINE_EXCEEDED", "The deadline passed while the request was queued"),
}
"""every problem code, with its statuses and title"""


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with a request: where (``observation.image``) and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ProblemError(Exception):
    """A request that cannot be answered, as it is reported to the client.

    Args:
        code: a key of :data:`PROBLEMS`.
        detail: what happened with this request, for a person; names what was sent and what was expected.
        errors: the fields that are wrong, for validation problems.
        retry_after: seconds after which to try again; defaults to 1 for problems that may pass.
        extra: further members of the problem object, such as ``expected_step``.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Iterable[FieldError] = (),
        retry_after: float | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = PROBLEMS[code]
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after if retry_after is not None else (1.0 if self.kind.retry else None)
        self.extra = extra

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.kind.status

    @property
    def grpc_status(self) -> str:
        """Name of the gRPC status code."""
        return self.kind.grpc

    def within(self, path: str) -> ProblemError:
        """This problem, of a field: its errors are about what is in ``path``."""
        if not self.errors:
            return self
        found = (FieldError(_joined(path, error.path), error.message) for error in self.errors)
        return invalid_fields(found) if self.code == "invalid_request" else self

    def to_dict(self, instance: str | None = None) -> dict[str, Any]:
        """The RFC 9457 object; ``instance`` is the path that was asked."""
        problem: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.code,
        }
        if instance is not None:
            problem["instance"] = instance
        if self.errors:
            problem["errors"] = [{"path": e.path, "message": e.message} for e in self.errors]
        elif self.status == 422:  # the whole of the request is wrong
            problem["errors"] = [{"path": "", "message": self.detail}]
        if self.retry_after is not None:
            problem["retry_after"] = self.retry_after
        problem.update(self.extra)
        return problem

    def to_json(self, instance: str | None = None) -> bytes:
        """The RFC 9457 object as UTF-8 JSON."""
        return json.dumps(self.to_dict(instance), allow_nan=False, default=str).encode()

    @classmethod
    def from_dict(cls, problem: Mapping[str, Any]) -> ProblemError:
        """The problem that a server sent; unknown codes become the nearest known kind by status."""
        code = str(problem.get("code", ""))
        status = problem.get("status")
        known = code if code in PROBLEMS else code_for_status(status if isinstance(status, int) else 500)
        reserved = {"type", "title", "status", "detail", "code", "instance", "errors", "retry_after"}
        listed = problem.get("errors")
        errors = [
            FieldError(str(e.get("path", "")), str(e.get("message", "")))
            for e in (listed if isinstance(listed, list) else [])
            if isinstance(e, Mapping)
        ]
        retry_after = problem.get("retry_after")
        return cls(
            known,
            str(problem.get("detail") or problem.get("title") or known),
            errors=errors,
            retry_after=float(retry_after) if isinstance(retry_after, (int, float)) else None,
            **{str(k): v for k, v in problem.items() if k not in reserved},
        )


def code_for_status(status: int) -> str:
    """The first code of the table that has this HTTP status, else ``internal`` or ``invalid_request``."""
    for code, kind in PROBLEMS.items():
        if kind.status == status:
            return code
    return "invalid_request" if 400 <= status < 500 else "internal"


def _joined(path: str, inner: str) -> str:
    return f"{path}.{inner}" if inner and not inner.startswith("[") else path + inner


def invalid(path: str, message: str) -> ProblemError:
    """The problem of one wrong field."""
    return invalid_fields([FieldError(path, message)])


def invalid_fields(errors: Iterable[FieldError]) -> ProblemError:
    """The problem of several wrong fields."""
    listed = tuple(errors)
    return ProblemError("invalid_request", "; ".join(str(e) for e in listed[:8]), errors=listed[:MAX_ERRORS])


def step_conflict(expected_step: int, step: int, *, why: str | None = None) -> ProblemError:
    """The problem of an act whose step is not the session's next one."""
    reason = why or f"the session expects step {expected_step}, the request is for step {step}"
    return ProblemError("step_conflict", reason, expected_step=expected_step, step=step)


def suggest(wrong: str, right: Iterable[str]) -> str:
    """``did you mean `x`?`` for the nearest right name, or the list of right names where none is near."""
    names = list(right)
    if not names:
        return "none is expected here"
    near = nearest(wrong, names)
    return (
        f"did you mean `{near}`?" if near else "expected one of " + ", ".join(f"`{name}`" for name in names)
    )


def show(value: Any) -> str:
    """A value as an error message shows it: short, in JSON's words, and never the whole of it."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        short = len(value) <= 8 and all(type(v) in (int, float, bool) and abs(v) < 10**20 for v in value)
        return repr(value) if short else "a list"
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        text = repr(value) if isinstance(value, float) or abs(value) < 10**20 else "a huge number"
        return text
    return type(value).__name__
