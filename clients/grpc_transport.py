"""The blocking channel of gRPC. ``clients.asynchronous.grpc_transport`` is its twin."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc

from clients.grpc_wire import HEALTH, GrpcWire
from service.protocol.generated import planner_pb2 as pb
from service.protocol.generated.planner_pb2_grpc import PlannerStub

_CLOSE = object()


class GrpcTransport:
    """A channel and what is called on it; failed calls are ``grpc.RpcError``."""

    def __init__(self, wire: GrpcWire) -> None:
        self._wire = wire
        self._timeout_s = wire.connection.timeout_s
        address, credentials, options = wire.channel_arguments()
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self._stub: Any = PlannerStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = self._channel.unary_unary(HEALTH)

    def call(self, rpc: str, message: Any) -> Any:
        """One call, one answer."""
        # wait_for_ready would hide that nothing listens; an answer has its own time.
        method = getattr(self._stub, rpc)
        return method(message, timeout=self._timeout_s, metadata=self._wire.sent_along(message))

    def imagine_stream(self, message: Any) -> Iterator[Any]:
        """The answers of ``ImagineStream``; closing the iterator cancels it."""
        answers = self._stub.ImagineStream(
            message, timeout=self._timeout_s, metadata=self._wire.sent_along(message)
        )
        try:
            yield from answers
        finally:
            answers.cancel()

    def health(self) -> bytes:
        """The answer of the standard health service, as it travels."""
        answer: bytes = self._health(b"", timeout=self._wire.connection.connect_s)
        return answer

    def act_stream(self) -> ActStream:
        """A stream for the acts of one session."""
        return ActStream(self._stub, self._wire.metadata)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


class StreamBrokenError(Exception):
    """A stream that gave no answer."""


class ActStream:
    """One session's bidirectional stream: a request goes in, its answer comes out, in order."""

    def __init__(self, stub: Any, metadata: list[tuple[str, str]]) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stream = stub.ActStream(iter(self._requests.get, _CLOSE), metadata=metadata)
        threading.Thread(target=self._receive, name="act-stream", daemon=True).start()

    def act(self, request: pb.ActRequest, timeout_s: float) -> pb.ActResponse:
        """Sends one request and waits for its answer. After an error the stream cannot be used again.

        Raises:
            grpc.RpcError: the stream failed.
            StreamBrokenError: the server ended it, or said nothing for ``timeout_s`` seconds.
        """
        self._requests.put(request)
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise StreamBrokenError(f"no answer within {timeout_s:g} s") from None
        if isinstance(answer, Exception):
            raise answer
        received: pb.ActResponse = answer
        return received

    def _receive(self) -> None:
        try:
            for answer in self._stream:
                self._answers.put(answer)
        except grpc.RpcError as error:
            self._answers.put(error)
        else:
            self._answers.put(StreamBrokenError("the server ended the stream"))

    def close(self) -> None:
        """Ends the stream."""
        self._requests.put(_CLOSE)
        self._stream.cancel()
