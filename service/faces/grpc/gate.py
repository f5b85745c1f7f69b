"""Around every gRPC call: its id, its key, its time and its span; and every failure as a status that carries
its problem."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import grpc
import structlog

from service.core import PlanningService
from service.operations.keys import Keys, Role
from service.operations.tracing import Tracing
from service.protocol.errors import ProblemError, invalid, show
from service.protocol.protobuf import SERVICE_NAME, TAKES_BYTES, problem_metadata

log = structlog.get_logger("thick.grpc")

Context: TypeAlias = grpc.aio.ServicerContext

TRACE_CONTEXT = ("traceparent", "tracestate")
"""metadata, and members of an act in a stream, that name the caller's trace (W3C)"""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Asked:
    """One call: what was asked, and by whom."""

    path: str
    """``/thick.v1.Planner/Act``"""
    metadata: Mapping[str, str]
    """what the client sent along, names in lower case"""
    role: Role
    arrived: float
    """s on the monotonic clock"""
    takes: int | None = None
    """bytes of the largest message that the client says it takes; 0 for any"""
    large: bool = False
    """whether what is made of its message should be made beside the event loop"""

    @property
    def key_sent(self) -> bool:
        """Whether the client named a key at all."""
        return bool(self.metadata.get("authorization"))

    def traced(self, tree: Mapping[str, Any]) -> Asked:
        """The call as part of the trace that one message of a stream names."""
        named = {name: tree[name] for name in TRACE_CONTEXT if name in tree}
        return replace(self, metadata={**self.metadata, **named}) if named else self


class Gate:
    """What every call of ``thick.v1.Planner`` passes through."""

    def __init__(self, service: PlanningService, tracing: Tracing) -> None:
        self.tracing = tracing
        self._service = service
        self._keys = Keys(service.settings)

    async def unary(
        self, method: str, context: Context, answer: Callable[[Asked], Awaitable[bytes]]
    ) -> bytes:
        """One answer to one message; counted and traced as one request."""
        async with self._ended_by_problem(method, context) as asked, self.request(asked, context):
            return await answer(asked)
        raise AssertionError("a failure ends the call")

    async def stream(self, method: str, context: Context, answer: Callable[[Asked], Awaitable[None]]) -> None:
        """Any number of answers; ``answer`` counts what it takes for a request (``request``)."""
        async with self._ended_by_problem(method, context) as asked:
            await answer(asked)

    @contextlib.asynccontextmanager
    async def request(self, asked: Asked, context: Context) -> AsyncIterator[None]:
        """Around one request: its span, its time, its line in the log."""
        began = time.monotonic()
        status = "UNKNOWN"
        try:
            with self.tracing.request(asked.path, asked.metadata, {"rpc.system": "grpc"}):
                yield
            status = "OK"
        except ProblemError as problem:
            status = problem.grpc_status
            raise
        except asyncio.CancelledError:
            left = context.time_remaining()
            status = "DEADLINE_EXCEEDED" if left is not None and left <= 0 else "CANCELLED"
            raise
        except Exception:
            status = "INTERNAL"
            raise
        finally:
            seconds = time.monotonic() - began
            self._service.metrics.request(asked.path, status, seconds)
            if self._service.settings.access_log:
                log.info("request", method="gRPC", path=asked.path, status=status, ms=round(1e3 * seconds, 2))

    @contextlib.asynccontextmanager
    async def _ended_by_problem(self, method: str, context: Context) -> AsyncIterator[Asked]:
        """Who asks; and whatever goes wrong ends the call with its status."""
        path = f"/{SERVICE_NAME}/{method}"
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        sent_id = metadata.get("x-request-id", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else secrets.token_hex(8)
        identity = ("x-request-id", request_id)
        context.set_trailing_metadata((identity,))
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            arrived = time.monotonic()
            role = self._keys.role(metadata.get("authorization"))
            yield Asked(path, metadata, role, arrived, _takes(metadata))
            return
        except ProblemError as problem:
            failure = problem
        except grpc.aio.AbortError:
            raise
        except Exception:
            log.exception("request failed", path=path)
            failure = ProblemError(
                "internal",
                "the service failed; its log has the reason under the request_id",
                request_id=request_id,
            )
        await end(context, failure, path, identity)


def _takes(metadata: Mapping[str, str]) -> int | None:
    said = metadata.get(TAKES_BYTES)
    if said is None:
        return None
    if not re.fullmatch(r"-1|\d{1,12}", said):
        raise invalid(TAKES_BYTES, f"expected a number of bytes, or -1 for any, got {show(said)}")
    return max(0, int(said))


async def end(context: Context, problem: ProblemError, path: str, *more: tuple[str, str]) -> None:
    """End a call with a problem: the status, its text, and the whole problem in the trailing metadata.

    A client's retry policy reads from ``grpc-retry-pushback-ms`` when to try again, as over HTTP from
    ``Retry-After``.
    """
    trailing: list[tuple[str, Any]] = [*problem_metadata(problem, path), *more]
    if problem.retry_after is not None:
        trailing.append(("grpc-retry-pushback-ms", str(round(1e3 * problem.retry_after))))
    await context.abort(getattr(grpc.StatusCode, problem.grpc_status), problem.detail[:1000], tuple(trailing))
