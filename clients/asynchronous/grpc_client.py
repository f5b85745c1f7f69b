"""The gRPC client: the methods of :class:`AsyncPlanningClient`, with acts as single calls or over a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import grpc

from clients import tracing
from clients.asynchronous.base import AsyncClient
from clients.asynchronous.grpc_transport import ActStream, GrpcTransport, StreamBrokenError
from clients.calls import Call
from clients.connection import ServiceConnection, Tls
from clients.errors import ClientError, ConnectionLostError
from clients.grpc_wire import SERVING, GrpcWire, NoStreamsError
from clients.retries import Retries
from service.protocol import protobuf
from service.protocol.events import END, Event

Result = TypeVar("Result")


class AsyncGrpcPlanningClient(AsyncClient):
    """Asks a THICK service over gRPC.

    Args:
        url: ``grpc://host:port``, ``grpcs://host:port`` (TLS) or ``host:port``.
        stream_acts: acts of a session go over one bidirectional stream, opened at its first act; otherwise, and
            where there are no such streams (behind Ray Serve), each is a call of its own.
        api_key: bearer key; the variable ``THICK_API_KEY`` by default.
        tls: certificates, for ``grpcs``.
        timeout_s: how long an answer may take.
        retries: bounds on sending again what may be sent again.
        images: send pictures as ``png``, ``webp`` or ``jpeg`` instead of raw bytes.

    Raises:
        ValueError: an argument cannot be used.
        ProxyError: an environment variable names a proxy that cannot be used.
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
        connection = ServiceConnection.to(
            url, schemes=("grpc", "grpcs"), port=8001, api_key=api_key, tls=tls, timeout_s=timeout_s,
            retries=retries, images=images,
        )  # fmt: skip
        super().__init__(connection)
        self._stream_acts = stream_acts
        self._wire = GrpcWire(connection)
        self._transport = GrpcTransport(self._wire)
        self._acts: dict[str, ActStream] = {}

    async def live(self) -> bool:
        """Whether a server runs there."""
        try:
            await self._transport.health()
        except grpc.RpcError as error:
            return error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        return True

    async def ready(self) -> bool:
        """Whether every configured model has loaded and warmed up (the standard health service)."""
        try:
            return await self._transport.health() == SERVING
        except grpc.RpcError:
            return False  # what cannot be reached is not ready

    async def close(self) -> None:
        """Closes streams and channel; sessions live on at the server until they expire."""
        for stream in list(self._acts.values()):
            stream.close()
        self._acts.clear()
        await self._transport.close()

    async def _send(self, call: Call[Result]) -> Result:
        try:
            answer = await self._transport.call(call.rpc, self._wire.message(call))
        except grpc.RpcError as error:
            raise self._wire.failure(call, error) from error
        return self._wire.read(call, answer)

    async def _run_act(self, session_id: str, call: Call[Result]) -> Result:
        if self._stream_acts:
            try:
                with tracing.span(call):
                    return await self._attempt_on_stream(session_id, call)
            except NoStreamsError:
                self._stream_acts = False
        return await self._run(call)

    async def _attempt_on_stream(self, session_id: str, call: Call[Result]) -> Result:
        message = self._wire.message(call, traced=True)  # a stream's metadata are those of its first act
        async for attempt in self.connection.retries.context(call):
            with attempt:
                stream = self._acts.get(session_id)
                if stream is None:
                    stream = self._acts[session_id] = self._transport.act_stream()
                try:
                    answer = await stream.act(message, self.connection.timeout_s)
                except grpc.RpcError as error:
                    self._drop(session_id)
                    if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                        raise NoStreamsError from error
                    raise self._wire.failure(call, error) from error
                except StreamBrokenError as error:
                    self._drop(session_id)
                    raise ConnectionLostError(self.connection.url, call.asked, str(error)) from error
                except (
                    BaseException
                ):  # abandoned: an answer may yet come, and would be taken for the next one's
                    self._drop(session_id)
                    raise
                return self._wire.read(call, answer)
        raise ClientError(self.connection.url, call.asked, "no attempt was made")

    def _drop(self, session_id: str) -> None:
        stream = self._acts.pop(session_id, None)
        if stream is not None:
            stream.close()

    async def _close_session(self, session_id: str) -> None:
        self._drop(session_id)
        await super()._close_session(session_id)

    async def _stream(self, call: Call[Any]) -> AsyncIterator[Event]:
        try:
            async for answer in self._transport.imagine_stream(self._wire.message(call)):
                event = protobuf.message_to_event(answer)
                yield event
                if event.name == END:
                    return
        except grpc.RpcError as error:
            raise self._wire.failure(call, error) from error
        raise ConnectionLostError(self.connection.url, call.asked, "the stream ended early")

    async def _picture(self, call: Call[Any], form: str) -> bytes:
        raise ClientError(
            self.connection.url,
            call.asked,
            f"{form} answers are HTTP only: use a client over HTTP, or clients.pictures",
        )
