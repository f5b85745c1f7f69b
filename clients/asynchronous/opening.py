"""How asynchronous code opens a session: when it is awaited. ``clients.opening`` is its twin."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from clients import results
from clients.asynchronous.carrier import AsyncCarrier
from clients.asynchronous.session import AsyncSession
from clients.calls import Call


class SessionOpening:
    """A session about to be opened: await it, or use it as an asynchronous context manager."""

    def __init__(self, client: AsyncCarrier, call: Call[results.SessionInfo]) -> None:
        self._client = client
        self._call = call
        self._session: AsyncSession | None = None

    def __await__(self) -> Generator[Any, None, AsyncSession]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncSession:
        self._session = await self._open()
        return self._session

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def _open(self) -> AsyncSession:
        return AsyncSession(self._client, await self._client._run(self._call))


def open_session(client: AsyncCarrier, call: Call[results.SessionInfo]) -> SessionOpening:
    """The session that a call creates or finds, once it is awaited."""
    return SessionOpening(client, call)
