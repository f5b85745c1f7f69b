"""gRPC through Ray Serve's own proxy: what the proxy takes for a replica, and how a replica answers it.

The proxy passes messages as bytes to a method of the replica that is named as the method of the service. Streams of
requests are left out: one would be a request of its replica for as long as it is open, so that idle ones would call for
more replicas and hold up those that are to go, and each of its messages is a call from the replica back to the proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2

from service.core import PlanningService
from service.faces.envelope import Envelope
from service.faces.grpc.gate import Gate
from service.faces.grpc.health import Health
from service.faces.grpc.methods import Methods
from service.operations.keys import Keys
from service.operations.tracing import Tracing
from service.protocol.generated import planner_pb2 as pb
from service.protocol.protobuf import SERVICE_NAME

SERVICER = "service.cluster.grpc:add_to_proxy"
"""import path, for ``grpc_servicer_functions`` of Ray Serve's ``grpc_options``"""
HEALTH = "grpc.health.v1.Health"
_OFFERED = [
    method for method in pb.DESCRIPTOR.services_by_name["Planner"].methods if not method.client_streaming
]
SINGLE = tuple(method.name for method in _OFFERED if not method.server_streaming)
"""methods with one message and one answer"""
STREAMED = tuple(method.name for method in _OFFERED if method.server_streaming)
"""methods with one message and any number of answers"""


def add_to_proxy(servicer: Any, server: Any) -> None:
    """Tell Ray Serve's proxy which methods there are; it puts its own way to a replica in place of each.

    Args:
        servicer: of no use: the proxy has none.
        server: the proxy's gRPC server.
    """

    def never(request: Any, context: Any) -> Any:
        raise NotImplementedError("Ray Serve's proxy answers in its place")

    planner = {name: grpc.unary_unary_rpc_method_handler(never) for name in SINGLE}
    planner |= {name: grpc.unary_stream_rpc_method_handler(never) for name in STREAMED}
    for service, handlers in (
        (SERVICE_NAME, planner),
        (HEALTH, {"Check": grpc.unary_unary_rpc_method_handler(never)}),
    ):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


class Answer(bytes):
    """An answer as it travels, where Ray expects a message that it can make such bytes of."""

    def SerializeToString(self) -> bytes:
        return bytes(self)


class ProxiedCall:
    """A call behind Ray's proxy, as the service's handlers know calls (``grpc.aio.ServicerContext``).

    Args:
        given: Ray's own context of the call, which goes back to the proxy with each answer.
    """

    def __init__(self, given: Any) -> None:
        self._given = given
        self.written: asyncio.Queue[Answer] = asyncio.Queue(1)
        """answers of a stream that are to be sent; a slow client keeps the next one from being made"""

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        return tuple(self._given.invocation_metadata())

    def set_trailing_metadata(self, trailing: Sequence[tuple[str, Any]]) -> None:
        self._given.set_trailing_metadata(list(trailing))

    def time_remaining(self) -> float | None:
        """Unknown here: the proxy cancels a call whose time is over."""
        return None

    def cancelled(self) -> bool:
        return False

    async def write(self, message: bytes) -> None:
        await self.written.put(Answer(message))

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing: Sequence[tuple[str, Any]] = ()
    ) -> None:
        """End the call with a status.

        Raises:
            grpc.aio.AbortError: always.
        """
        self._given.set_code(code)
        self._given.set_details(details)
        self.set_trailing_metadata(trailing)
        raise grpc.aio.AbortError()


class ProxiedMethods:
    """Answers what comes through Ray's proxy, as the service's own gRPC port would."""

    def __init__(self, service: PlanningService, tracing: Tracing) -> None:
        settings = service.settings
        gate = Gate(Envelope(service, tracing), Keys(settings), settings.replica)
        self._handlers = Methods(service, gate).handlers()
        self._health = Health(service)

    async def single(self, name: str, raw: bytes, given: Any) -> Answer:
        """One answer to one message; a failure is in the status of ``given``."""
        try:
            return Answer(await self._handlers[name].unary_unary(raw, ProxiedCall(given)))
        except grpc.aio.AbortError:
            return Answer()  # with another status than OK, the proxy sends that and the trailing metadata

    async def streamed(self, name: str, raw: bytes, given: Any) -> AsyncIterator[Answer]:
        """Any number of answers.

        Raises:
            grpc.aio.AbortError: the call failed; Ray passes on code and text alone, without the trailing metadata.
        """
        call = ProxiedCall(given)
        task = asyncio.ensure_future(self._handlers[name].unary_stream(raw, call))
        try:
            while not task.done() or not call.written.empty():
                if call.written.empty():
                    following = asyncio.ensure_future(call.written.get())
                    await asyncio.wait({following, task}, return_when=asyncio.FIRST_COMPLETED)
                    if not following.done():
                        following.cancel()
                        continue
                    yield following.result()
                else:
                    yield call.written.get_nowait()
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def check(self, raw: bytes, given: Any) -> Answer:
        """The standard health service, of the replica that was reached."""
        call = cast("grpc.aio.ServicerContext[Any, Any]", ProxiedCall(given))
        try:
            request = health_pb2.HealthCheckRequest.FromString(raw)
            return Answer((await self._health.Check(request, call)).SerializeToString())
        except grpc.aio.AbortError:
            return Answer()


def add_to_replica(replica: type[Any]) -> None:
    """Give a class with an attribute ``methods`` (:class:`ProxiedMethods`) a method for each of the service's, which is
    what Ray calls."""

    def single(name: str) -> Any:
        async def call(self: Any, raw: bytes, grpc_context: Any) -> Answer:
            answer: Answer = await self.methods.single(name, raw, grpc_context)
            return answer

        return call

    def streamed(name: str) -> Any:
        async def call(self: Any, raw: bytes, grpc_context: Any) -> AsyncIterator[Answer]:
            async for answer in self.methods.streamed(name, raw, grpc_context):
                yield answer

        return call

    async def check(self: Any, raw: bytes, grpc_context: Any) -> Answer:
        answer: Answer = await self.methods.check(raw, grpc_context)
        return answer

    made = {name: single(name) for name in SINGLE} | {name: streamed(name) for name in STREAMED}
    for name, method in {**made, "Check": check}.items():
        method.__name__ = name
        setattr(replica, name, method)
