"""Around every request, whatever it came by: its id, its clock, its span, its count and its line in the log.

HTTP, gRPC and openpi's WebSocket say what came and what became of it; everything else is here, once.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import structlog

from service.core import Clock, PlanningService
from service.operations.logs import ABOUT
from service.operations.tracing import Tracing

Status = int | str
"""an HTTP status, or the name of a gRPC one"""

log = structlog.get_logger("thick.request")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROCESS = secrets.token_hex(4)
"""how the ids begin that this process gives; no other has them"""
_number = itertools.count(secrets.randbits(24))


def identify(sent: str | None = None) -> str:
    """The id of a request (the one that the client chose, where it can be one), from now on in every line of the log.

    A connection that carries several requests has one id for all of them.
    """
    request_id = sent if sent and _REQUEST_ID.fullmatch(sent) else f"{_PROCESS}{next(_number):08x}"
    ABOUT.set({"request_id": request_id})
    return request_id


def name_session(session_id: str) -> None:
    """Put a session's id into every line of the log about this request."""
    ABOUT.set({**ABOUT.get(), "session_id": session_id[:64]})


@dataclass(slots=True)
class Exchange:
    """One request, and what became of it."""

    method: str
    """as the log has it: an HTTP method, ``gRPC`` or ``WS``"""
    path: str
    """what was asked, as the log has it"""
    route: str
    """what metrics count it under: a template, so that there are few; HTTP knows it late"""
    span: str
    """name of its span"""
    headers: Mapping[str, str]
    """of the caller; they may name its trace"""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """of its span"""
    arrived: float = field(default_factory=time.monotonic)
    """s on the monotonic clock"""
    status: Status | None = None
    """what was answered, once that is known"""


class Envelope:
    """What every transport puts around its requests."""

    def __init__(self, service: PlanningService, tracing: Tracing) -> None:
        self.tracing = tracing
        self._service = service

    def around(
        self, exchange: Exchange, status_of: Callable[[BaseException | None], Status]
    ) -> AbstractContextManager[None]:
        """Around one request (``with``): traced, timed, counted and logged.

        Args:
            status_of: its status, where ``exchange.status`` was not set: from what it raised, or from None.
        """
        return _Around(self, exchange, status_of)

    def ended(self, exchange: Exchange, status: Status) -> None:
        """A request is over: count it, and log it."""
        seconds = time.monotonic() - exchange.arrived
        self._service.metrics.request(exchange.route, status, seconds)
        if self._service.settings.access_log:
            log.info(
                "request",
                method=exchange.method,
                path=exchange.path,
                status=status,
                ms=round(1e3 * seconds, 2),
            )

    def acted(self, answer: Mapping[str, Any], clock: Clock, encode_s: float) -> None:
        """The request in progress was an act that was answered: count its phases, and trace them.

        Args:
            encode_s: seconds that writing the answer took.
        """
        self._service.metrics.phase("decode", clock.decode_s)
        self._service.metrics.phase("encode", encode_s)
        self.tracing.acted(answer, clock.timing, encode_s)


class _Around(AbstractContextManager[None]):
    """See :meth:`Envelope.around`. (A generator with ``contextlib`` takes several times as long to go through.)"""

    __slots__ = ("_envelope", "_exchange", "_span", "_status_of")

    def __init__(
        self, envelope: Envelope, exchange: Exchange, status_of: Callable[[BaseException | None], Status]
    ) -> None:
        self._envelope, self._exchange, self._status_of = envelope, exchange, status_of
        self._span = envelope.tracing.request(exchange.span, exchange.headers, exchange.attributes)

    def __enter__(self) -> None:
        self._span.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._span.__exit__(kind, failure, traceback)
        finally:
            exchange = self._exchange
            status = self._status_of(failure) if exchange.status is None else exchange.status
            self._envelope.ended(exchange, status)
