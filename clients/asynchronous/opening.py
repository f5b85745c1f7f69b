"""How asynchronous code opens a session or a dream: when it is awaited. ``clients.opening`` is its twin."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, Protocol, TypeVar

from clients import dream_results, results
from clients.asynchronous.carrier import AsyncCarrier
from clients.asynchronous.dream import AsyncDream
from clients.asynchronous.session import AsyncSession
from clients.calls import Call


class _Closed(Protocol):
    async def close(self) -> None:
        """Deletes it."""


Info = TypeVar("Info")
Opened = TypeVar("Opened", bound=_Closed)


class Opening(Generic[Info, Opened]):
    """Something about to be opened: await it, or use it as an asynchronous context manager."""

    def __init__(
        self, client: AsyncCarrier, call: Call[Info], made: Callable[[AsyncCarrier, Info], Opened]
    ) -> None:
        self._client, self._call, self._made = client, call, made
        self._opened: Opened | None = None

    def __await__(self) -> Generator[Any, None, Opened]:
        return self._open().__await__()

    async def __aenter__(self) -> Opened:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(self, *_: object) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def _open(self) -> Opened:
        return self._made(self._client, await self._client._run(self._call))


SessionOpening = Opening[results.SessionInfo, AsyncSession]
DreamOpening = Opening[dream_results.DreamInfo, AsyncDream]


def open_session(client: AsyncCarrier, call: Call[results.SessionInfo]) -> SessionOpening:
    """The session that a call creates or finds, once it is awaited."""
    return Opening(client, call, AsyncSession)


def open_dream(client: AsyncCarrier, call: Call[dream_results.DreamInfo]) -> DreamOpening:
    """The dream that a call creates or finds, once it is awaited."""
    return Opening(client, call, AsyncDream)
