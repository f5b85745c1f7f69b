"""Around every request, whatever it came by: its id, its clock, its span, its count and its line in the log.

HTTP, gRPC and openpi's WebSocket say what came and what became of it; everything else is here, once.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from service.core import Clock, PlanningService
from service.operations.tracing import Tracing

Status = int | str
"""an HTTP status, or the name of a gRPC one"""

log = structlog.get_logger("thick.request")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def identify(sent: str | None = None) -> str:
    """The id of a request (the one that the client chose, where it can be one), from now on in every line of the log.

    A connection that carries several requests has one id for all of them.
    """
    request_id = sent if sent and _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def name_session(session_id: str) -> None:
    """Put a session's id into every line of the log about this request."""
    structlog.contextvars.bind_contextvars(session_id=session_id[:64])


@dataclass
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

    @contextlib.contextmanager
    def around(
        self, exchange: Exchange, status_of: Callable[[BaseException | None], Status]
    ) -> Iterator[Exchange]:
        """Around one request: traced, timed, counted and logged.

        Args:
            status_of: its status, where ``exchange.status`` was not set: from what it raised, or from None.
        """
        failure: BaseException | None = None
        try:
            with self.tracing.request(exchange.span, exchange.headers, exchange.attributes):
                yield exchange
        except BaseException as error:
            failure = error
            raise
        finally:
            status = status_of(failure) if exchange.status is None else exchange.status
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
