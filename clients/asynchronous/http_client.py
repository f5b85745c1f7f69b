"""The HTTP client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import httpx

from clients.asynchronous.base import AsyncClient
from clients.asynchronous.waiting import events_of
from clients.calls import Call
from clients.connection import ServiceConnection, Tls
from clients.errors import ClientError, ConnectionLostError, service_error
from clients.http_wire import LIVE, PICTURES, READY, HttpWire
from clients.retries import Retries
from service.protocol import media
from service.protocol.errors import ProblemError
from service.protocol.events import END, ERROR, Event

Result = TypeVar("Result")


class AsyncPlanningClient(AsyncClient):
    """Asks a THICK service over HTTP.

    Args:
        url: ``http://host:port`` or ``https://…``.
        encoding: of the bodies, ``msgpack`` or ``json``.
        api_key: bearer key; the variable ``THICK_API_KEY`` by default.
        tls: certificates, for ``https``.
        timeout_s: how long an answer may take.
        retries: bounds on sending again what may be sent again.
        images: send pictures as ``png``, ``webp`` or ``jpeg`` instead of raw bytes.

    Raises:
        ValueError: an argument cannot be used.
        ProxyError: an environment variable names a proxy that cannot be used.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        encoding: str = "msgpack",
        api_key: str | None = None,
        tls: Tls | None = None,
        timeout_s: float = 120.0,
        retries: Retries | None = None,
        images: str | None = None,
    ) -> None:
        connection = ServiceConnection.to(
            url, schemes=("http", "https"), port=8000, api_key=api_key, tls=tls, timeout_s=timeout_s,
            retries=retries, images=images,
        )  # fmt: skip
        super().__init__(connection)
        self._wire = HttpWire(connection, encoding)
        self._http = httpx.AsyncClient(**self._wire.client_options())

    async def live(self) -> bool:
        """Whether a server runs there."""
        response = await self._health(LIVE)
        return response is not None and response.is_success

    async def ready(self) -> bool:
        """Whether every configured model has loaded and warmed up."""
        response = await self._health(READY)
        return response is not None and response.is_success

    async def close(self) -> None:
        """Closes the connections; sessions live on at the server until they expire."""
        await self._http.aclose()

    async def _hopeless(self) -> ClientError | None:
        response = await self._health(READY)
        if response is None:
            return None
        return self._wire.models_failed(response) or await super()._hopeless()

    async def _health(self, path: str) -> httpx.Response | None:
        try:
            return await self._http.get(path, timeout=self.connection.connect_s)
        except httpx.HTTPError:
            return None  # what cannot be reached is neither live nor ready

    async def _send(self, call: Call[Result]) -> Result:
        return self._wire.read(call, await self._response(call))

    async def _response(self, call: Call[Any], accept: str | None = None) -> httpx.Response:
        try:
            return await self._http.request(**self._wire.request(call, accept))
        except httpx.HTTPError as error:
            raise self._wire.transport_error(call, error) from error

    async def _stream(self, call: Call[Any]) -> AsyncIterator[Event]:
        try:
            async with self._http.stream(**self._wire.request(call, media.EVENT_STREAM)) as response:
                if not response.is_success:
                    await response.aread()
                self._wire.check(call, response)
                async for event in events_of(response.aiter_lines()):
                    if event.name == ERROR:
                        problem = ProblemError.from_dict(event.data)
                        raise service_error(self.connection.url, call.asked, problem)
                    yield event
                    if event.name == END:
                        return
        except httpx.HTTPError as error:
            raise self._wire.transport_error(call, error) from error
        raise ConnectionLostError(self.connection.url, call.asked, "the stream ended early")

    async def _picture(self, call: Call[Any], form: str) -> bytes:
        if form not in PICTURES:
            raise ValueError(f"form: expected one of {', '.join(PICTURES)}, got {form!r}")
        response = await self._response(call, PICTURES[form])
        self._wire.check(call, response)
        return response.content
