"""The gRPC client: the methods of :class:`PlanningClient`, with acts as single calls or over a stream."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import grpc

from clients import tracing
from clients.base import SyncClient
from clients.calls import Call
from clients.connection import Connection, Tls
from clients.errors import (
    ClientError,
    ConnectionLostError,
    NotConnectedError,
    UnexpectedAnswerError,
    service_error,
)
from clients.retries import Retries
from clients.session import Session
from service.protocol import protobuf
from service.protocol.errors import GRPC_PROBLEM_KEY, ProblemError
from service.protocol.events import END, Event
from service.protocol.generated import planner_pb2 as pb
from service.protocol.generated.planner_pb2_grpc import PlannerStub

Result = TypeVar("Result")

MAX_MESSAGE = 64 * 1024 * 1024
_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse with status SERVING
_CLOSE = object()


class GrpcPlanningClient(SyncClient):
    """Asks a THICK service over gRPC.

    Args:
        url: ``grpc://host:port``, ``grpcs://host:port`` (TLS) or ``host:port``.
        stream_acts: acts of a session go over one bidirectional stream, opened at its first act; otherwise
            each is a call of its own.
        api_key: bearer key; the variable ``THICK_API_KEY`` by default.
        tls: certificates, for ``grpcs``.
        timeout_s: how long an answer may take.
        retries: bounds on sending again what may be sent again.
        images: send pictures as ``png``, ``webp`` or ``jpeg`` instead of raw bytes.
    """

    def __init__(
        self,
        url: str = "grpc://127.0.0.1:8001",
        *,
        stream_acts: bool = True,
        api_key: str | None = None,
        tls: Tls | None = None,
        timeout_s: float = 120.0,
        retries: Retries | None = None,
        images: str | None = None,
    ) -> None:
        connection = Connection.to(
            url, schemes=("grpc", "grpcs"), port=8001, api_key=api_key, tls=tls, timeout_s=timeout_s,
            retries=retries, images=images,
        )  # fmt: skip
        super().__init__(connection)
        self._stream_acts = stream_acts
        self._metadata = [(protobuf.TAKES_BYTES, str(MAX_MESSAGE))]
        if connection.api_key:
            self._metadata.append(("authorization", f"Bearer {connection.api_key}"))
        options = [
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.keepalive_time_ms", 60_000),  # finds out about a peer that is gone without a word
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.enable_retries", 0),  # this client retries, and knows what may be repeated
            ("grpc.enable_http_proxy", 0 if connection.loopback else 1),
        ]
        if connection.secure:
            credentials = grpc.ssl_channel_credentials(*connection.tls.read())
            self._channel = grpc.secure_channel(connection.authority, credentials, options)
        else:
            self._channel = grpc.insecure_channel(connection.authority, options)
        self._stub: Any = PlannerStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check", request_serializer=_as_is, response_deserializer=_as_is
        )
        self._acts: dict[str, ActStream] = {}

    def __enter__(self) -> GrpcPlanningClient:
        return self

    def live(self) -> bool:
        """Whether a server runs there."""
        try:
            self._health(b"", timeout=self.connection.connect_s)
        except grpc.RpcError as error:
            return error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        return True

    def ready(self) -> bool:
        """Whether every configured model has loaded and warmed up (the standard health service)."""
        try:
            return bool(self._health(b"", timeout=self.connection.connect_s) == _SERVING)
        except grpc.RpcError:
            return False  # what cannot be reached is not ready

    def close(self) -> None:
        """Closes streams and channel; sessions live on at the server until they expire."""
        for stream in list(self._acts.values()):
            stream.close()
        self._acts.clear()
        self._channel.close()

    def _send(self, call: Call[Result]) -> Result:
        message = _message(call)
        try:
            # wait_for_ready would hide that nothing listens; an answer has its own time.
            answer = getattr(self._stub, call.rpc)(
                message, timeout=self.connection.timeout_s, metadata=self._sent_along()
            )
        except grpc.RpcError as error:
            raise self._failure(call, error) from error
        return self._read(call, answer)

    def _run_act(self, session: Session, call: Call[Result]) -> Result:
        if not self._stream_acts:
            return self._run(call)
        with tracing.span(call):
            return self._attempt_on_stream(session, call)

    def _attempt_on_stream(self, session: Session, call: Call[Result]) -> Result:
        message = _message(call)
        for name, value in tracing.headers().items():  # a stream's metadata are those of its first act
            setattr(message, name, value)
        for attempt in self.connection.retries.context(call):
            with attempt:
                stream = self._acts.get(session.id)
                if stream is None:
                    stream = self._acts[session.id] = ActStream(self._stub, self._metadata)
                try:
                    answer = stream.act(message, self.connection.timeout_s)
                except grpc.RpcError as error:
                    self._drop(session)
                    raise self._failure(call, error) from error
                except StreamBrokenError as error:
                    self._drop(session)
                    raise ConnectionLostError(self.connection.url, call.asked, str(error)) from error
                except BaseException:  # Ctrl-C: an answer may yet come, and would be taken for the next one's
                    self._drop(session)
                    raise
                return self._read(call, answer)
        raise ClientError(self.connection.url, call.asked, "no attempt was made")

    def _sent_along(self) -> list[tuple[str, str]]:
        return [*self._metadata, *tracing.headers().items()]

    def _drop(self, session: Session) -> None:
        stream = self._acts.pop(session.id, None)
        if stream is not None:
            stream.close()

    def _close_session(self, session: Session) -> None:
        self._drop(session)
        super()._close_session(session)

    def _stream(self, call: Call[Any]) -> Iterator[Event]:
        message = _message(call)
        answers = self._stub.ImagineStream(
            message, timeout=self.connection.timeout_s, metadata=self._sent_along()
        )
        try:
            for answer in answers:
                event = protobuf.message_to_event(answer)
                yield event
                if event.name == END:
                    return
        except grpc.RpcError as error:
            raise self._failure(call, error) from error
        finally:
            answers.cancel()
        raise ConnectionLostError(self.connection.url, call.asked, "the stream ended early")

    def _picture(self, call: Call[Any], form: str) -> bytes:
        raise ClientError(
            self.connection.url,
            call.asked,
            f"{form} answers are HTTP only: use PlanningClient, or clients.pictures",
        )

    def _read(self, call: Call[Result], answer: Any) -> Result:
        try:
            return call.read(protobuf.to_dict(answer))
        except (ProblemError, KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswerError(
                self.connection.url,
                call.asked,
                f"the answer cannot be read ({type(error).__name__}: {error})",
            ) from error

    def _failure(self, call: Call[Any], error: Any) -> ClientError:
        """What a failed call means."""
        status, details, trailing = error.code(), error.details(), error.trailing_metadata()
        carried = any(key == GRPC_PROBLEM_KEY for key, _ in trailing or ())
        url = self.connection.url
        if not carried and "http1" in (details or ""):
            reason = (
                "that port speaks HTTP; gRPC has a port of its own (8001 unless --grpc-port says otherwise)"
            )
            return UnexpectedAnswerError(url, call.asked, reason)
        if not carried and status == grpc.StatusCode.UNAVAILABLE:
            if "onnect" in (details or "") and "reset" not in (details or "").lower():
                reason = f"cannot connect ({details}); is `thick serve` running there?"
                return NotConnectedError(url, call.asked, reason)
            return ConnectionLostError(url, call.asked, f"the connection broke ({details})")
        if not carried and status == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ConnectionLostError(url, call.asked, f"no answer within {self.connection.timeout_s:g} s")
        if not carried and status in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN):
            return UnexpectedAnswerError(url, call.asked, f"{status.name}: {details}")
        problem = protobuf.problem_from_status(status.name, details, trailing)
        request_id = next((v for k, v in trailing or () if k == "x-request-id"), None)
        return service_error(url, call.asked, problem, request_id)


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


def _message(call: Call[Any]) -> Any:
    kind = getattr(pb, f"{call.rpc}Request")
    if isinstance(call.body, bytes):
        return kind(belief=call.body)
    return protobuf.from_dict(kind, {**call.names, **(call.body or {})})


def _as_is(data: bytes) -> bytes:
    return data
