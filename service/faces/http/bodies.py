"""HTTP bodies in and out: media types by ``Content-Type`` and ``Accept``, sizes and times bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from service.faces.http.waiting import once_waiting
from service.operations.offloop import LARGE, off_loop
from service.protocol import media
from service.protocol.bodies import decode_body, encode_body
from service.protocol.errors import ProblemError
from service.protocol.limits import Limits


@dataclass(frozen=True)
class Body:
    """A decoded body."""

    tree: Any
    decode_s: float = 0.0
    """seconds that decoding took"""
    large: bool = False
    """whether what is made of it should be made off the event loop"""


class Incoming(Protocol):
    """A request whose body is still to be read (Starlette's ``Request`` is one)."""

    @property
    def scope(self) -> Scope: ...

    @property
    def receive(self) -> Receive: ...


def sent_headers(request: Incoming) -> Mapping[str, str]:
    """The headers of a request, as the gate read them."""
    headers: Mapping[str, str] = request.scope["state"]["headers"]
    return headers


async def read_raw(request: Incoming, *, most: int, timeout_s: float) -> bytes:
    """The whole body.

    Raises:
        ProblemError: ``body_too_large`` (from the announced length, before it is read), ``request_timeout``,
            ``cancelled``.
    """
    announced = sent_headers(request).get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise ProblemError(
            "body_too_large", f"a body has at most {most} bytes here, this one {int(announced)}"
        )
    parts: list[bytes] = []
    size = 0
    bound = _Bound(timeout_s)
    try:
        more = True
        while more:
            message: Message = await once_waiting(request.receive(), bound.begin)
            if message["type"] == "http.disconnect":
                raise ProblemError("cancelled", "the client closed the connection while it was sending")
            part = message.get("body", b"")
            size += len(part)
            if size > most:
                raise ProblemError("body_too_large", f"a body has at most {most} bytes here")
            parts.append(part)
            more = message.get("more_body", False)
    except asyncio.CancelledError:
        if not bound.passed():
            raise
        raise ProblemError(
            "request_timeout", f"{size} bytes came in {timeout_s:g} s; the body must arrive in that time"
        ) from None
    finally:
        bound.end()
    return b"".join(parts) if len(parts) > 1 else parts[0]


class _Bound:
    """Cancels the running task after a time, which begins once the task waits. (``asyncio.timeout`` costs several times
    as much, for every request although its body is here already.)"""

    __slots__ = ("_before", "_passed", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds, self._passed = seconds, False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The time runs from the first call on."""
        if self._timer is None:
            task = asyncio.current_task()
            assert task is not None
            self._task, self._before = task, task.cancelling()
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._pass)

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()

    def passed(self) -> bool:
        """Whether that is why the task was cancelled, and nothing else; it goes on then."""
        return self._passed and self._task.uncancel() <= self._before

    def end(self) -> None:
        """The time does not matter any more."""
        if self._timer is not None:
            self._timer.cancel()


async def read_body(request: Incoming, limits: Limits, *, timeout_s: float, optional: bool = False) -> Body:
    """A JSON or msgpack body.

    Args:
        optional: an empty body counts as an empty object, whatever its type.

    Raises:
        ProblemError: ``unsupported_media_type``, ``body_too_large``, ``request_timeout``, ``malformed_body``.
    """
    kind = sent_headers(request).get("content-type")
    unknown = kind and media.essence(kind) not in media.BODY_TYPES
    raw = (
        b""
        if unknown and not optional
        else await read_raw(request, most=limits.body_bytes, timeout_s=timeout_s)
    )
    if optional and not raw:
        return Body({})
    if unknown:
        raise ProblemError(
            "unsupported_media_type",
            f"Content-Type: expected {media.JSON} or {media.MSGPACK}, got {str(kind)[:80]}",
        )
    began = time.perf_counter()
    large = len(raw) > LARGE
    tree = await off_loop(decode_body, raw, kind, limits) if large else decode_body(raw, kind, limits)
    return Body(tree, time.perf_counter() - began, large)


def body_type(request: Incoming) -> str:
    """The media type that the answer's body gets: what ``Accept`` prefers, else the type of the request's
    body.

    Raises:
        ProblemError: ``not_acceptable``.
    """
    return accepted(request, media.BODY_TYPES)


def accepted(request: Incoming, offered: tuple[str, ...]) -> str:
    """The one of the offered media types that the client prefers.

    Raises:
        ProblemError: ``not_acceptable``.
    """
    headers = sent_headers(request)
    wanted = headers.get("accept")
    if wanted in offered:  # as our own clients ask: nothing to weigh
        return wanted
    sent = media.essence(headers.get("content-type"))
    default = sent if sent in media.BODY_TYPES else media.JSON
    chosen = media.negotiate(wanted, offered, default=default)
    if chosen is None:
        raise ProblemError(
            "not_acceptable",
            f"Accept: {str(wanted)[:120]}: this resource answers {', '.join(offered)}",
        )
    return chosen


def respond(tree: Any, kind: str, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer with a body."""
    return Response(encode_body(tree, kind), status, headers, media_type=kind)
