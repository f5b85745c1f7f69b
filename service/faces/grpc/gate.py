"""Around every gRPC call: its id, its key, its time and its span; and every failure as a status that carries
its problem."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import grpc
import structlog

from service.faces.envelope import Envelope, Exchange, identify
from service.faces.problems import end_call, internal
from service.operations.keys import Keys, Role
from service.protocol.errors import ProblemError, invalid, show
from service.protocol.protobuf import SERVICE_NAME, TAKES_BYTES

log = structlog.get_logger("thick.grpc")

Context: TypeAlias = grpc.aio.ServicerContext

TRACE_CONTEXT = ("traceparent", "tracestate")
"""metadata, and members of an act in a stream, that name the caller's trace (W3C)"""


CLOCKS_S = 0.05
"""a call that is cancelled with less than this left was ended by its deadline, on the clock of its client"""


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
    """whether what is made of its message should be made off the event loop"""

    @property
    def key_sent(self) -> bool:
        """Whether the client named a key at all."""
        return bool(self.metadata.get("authorization"))

    def traced(self, tree: Mapping[str, Any]) -> Asked:
        """The call as part of the trace that one message of a stream names."""
        named = {name: tree[name] for name in TRACE_CONTEXT if name in tree}
        return replace(self, metadata={**self.metadata, **named}) if named else self


class Gate:
    """What every call of ``thick.v1.Planner`` passes through.

    Args:
        replica: name of this process among several, which trailing metadata carry (``thick-replica``).
    """

    def __init__(self, envelope: Envelope, keys: Keys, replica: str | None = None) -> None:
        self.envelope = envelope
        self._keys = keys
        self._replica = (("thick-replica", replica),) if replica else ()

    async def unary(
        self, method: str, context: Context, answer: Callable[[Asked], Awaitable[bytes]]
    ) -> bytes:
        """One answer to one message; counted and traced as one request."""
        async with self._ended_by_problem(method, context) as asked:
            with self.request(asked, context):
                return await answer(asked)
        raise AssertionError("a failure ends the call")

    async def stream(self, method: str, context: Context, answer: Callable[[Asked], Awaitable[None]]) -> None:
        """Any number of answers; ``answer`` counts what it takes for a request (``request``)."""
        async with self._ended_by_problem(method, context) as asked:
            await answer(asked)

    def request(self, asked: Asked, context: Context) -> contextlib.AbstractContextManager[None]:
        """Around one request of a call."""
        exchange = Exchange(
            "gRPC", asked.path, asked.path, asked.path, asked.metadata, {"rpc.system": "grpc"}
        )
        return self.envelope.around(exchange, partial(_status_of, context))

    @contextlib.asynccontextmanager
    async def _ended_by_problem(self, method: str, context: Context) -> AsyncIterator[Asked]:
        """Who asks; and whatever goes wrong ends the call with its status."""
        path = f"/{SERVICE_NAME}/{method}"
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        request_id = identify(metadata.get("x-request-id"))
        said = (("x-request-id", request_id), *self._replica)
        context.set_trailing_metadata(said)
        try:
            arrived = time.monotonic()
            role = self._keys.role(metadata.get("authorization"))
            yield Asked(path, metadata, role, arrived, _takes(metadata))
            return
        except ProblemError as problem:
            failure = problem
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            if (
                type(error).__name__ == "ExecuteBatchError"
            ):  # of gRPC's own: the client went away, nobody reads
                raise asyncio.CancelledError from error
            log.exception("request failed", path=path)
            failure = internal(request_id)
        await end_call(context, failure, path, *said)


def _takes(metadata: Mapping[str, str]) -> int | None:
    said = metadata.get(TAKES_BYTES)
    if said is None:
        return None
    if not re.fullmatch(r"-1|\d{1,12}", said):
        raise invalid(TAKES_BYTES, f"expected a number of bytes, or -1 for any, got {show(said)}")
    return max(0, int(said))


def _status_of(context: Context, failure: BaseException | None) -> str:
    if failure is None:
        return "OK"
    if isinstance(failure, ProblemError):
        return failure.grpc_status
    if isinstance(failure, asyncio.CancelledError):
        left = context.time_remaining()
        return "DEADLINE_EXCEEDED" if left is not None and left <= CLOCKS_S else "CANCELLED"
    return "INTERNAL" if isinstance(failure, Exception) else "UNKNOWN"
