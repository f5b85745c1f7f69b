"""The asynchronous channel of gRPC. ``clients.grpc_transport`` is its twin."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any

import grpc.aio

from clients.grpc_transport import StreamBrokenError
from clients.grpc_wire import HEALTH, GrpcWire
from service.protocol.generated import planner_pb2 as pb
from service.protocol.generated.planner_pb2_grpc import PlannerStub

__all__ = ["ActStream", "GrpcTransport", "StreamBrokenError"]


class GrpcTransport:
    """A channel and what is called on it; failed calls are ``grpc.RpcError``."""

    def __init__(self, wire: GrpcWire) -> None:
        self._wire = wire
        self._timeout_s = wire.connection.timeout_s
        self._arguments = wire.channel_arguments()  # files that cannot be read fail here

    @cached_property
    def _channel(self) -> Any:
        """Opened by the first call: a channel belongs to the event loop in which it was made."""
        address, credentials, options = self._arguments
        if credentials is None:
            return grpc.aio.insecure_channel(address, options)
        return grpc.aio.secure_channel(address, credentials, options)

    @cached_property
    def _stub(self) -> Any:
        return PlannerStub(self._channel)  # type: ignore[no-untyped-call]

    async def call(self, rpc: str, message: Any) -> Any:
        """One call, one answer."""
        # wait_for_ready would hide that nothing listens; an answer has its own time.
        method = getattr(self._stub, rpc)
        return await method(message, timeout=self._timeout_s, metadata=self._wire.sent_along(message))

    async def imagine_stream(self, message: Any) -> AsyncIterator[Any]:
        """The answers of ``ImagineStream``; closing the iterator cancels it."""
        answers = self._stub.ImagineStream(
            message, timeout=self._timeout_s, metadata=self._wire.sent_along(message)
        )
        try:
            async for answer in answers:
                yield answer
        finally:
            answers.cancel()

    async def health(self) -> bytes:
        """The answer of the standard health service, as it travels."""
        answer: bytes = await self._channel.unary_unary(HEALTH)(b"", timeout=self._wire.connection.connect_s)
        return answer

    def act_stream(self) -> ActStream:
        """A stream for the acts of one session."""
        return ActStream(self._stub, self._wire.metadata)

    async def close(self) -> None:
        """Closes the channel."""
        if "_channel" in self.__dict__:
            await self._channel.close()


class ActStream:
    """One session's bidirectional stream: a request goes in, its answer comes out, in order."""

    def __init__(self, stub: Any, metadata: list[tuple[str, str]]) -> None:
        self._stream = stub.ActStream(metadata=metadata)

    async def act(self, request: pb.ActRequest, timeout_s: float) -> pb.ActResponse:
        """Sends one request and waits for its answer. After an error the stream cannot be used again.

        Raises:
            grpc.RpcError: the stream failed.
            StreamBrokenError: the server ended it, or said nothing for ``timeout_s`` seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                with contextlib.suppress(asyncio.InvalidStateError):  # it has ended: reading says how
                    await self._stream.write(request)
                answer = await self._stream.read()
        except TimeoutError:
            raise StreamBrokenError(f"no answer within {timeout_s:g} s") from None
        if answer is grpc.aio.EOF:
            raise StreamBrokenError("the server ended the stream")
        received: pb.ActResponse = answer
        return received

    def close(self) -> None:
        """Ends the stream."""
        self._stream.cancel()
