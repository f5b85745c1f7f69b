"""How asynchronous code waits: locks, sleep, lines. ``clients.waiting`` is its twin."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import Lock, sleep
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from typing import Any

from service.protocol.events import Event, EventReader

__all__ = ["Background", "Lock", "Signal", "events_of", "sleep"]


LAST_WORDS_S = 2.0
"""how long work in the background may take to end by itself"""


class Signal:
    """Something happened: whoever waits goes on."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """It happened."""
        self._event.set()

    async def wait(self, seconds: float | None) -> None:
        """Returns once it happened since the last wait, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


class Background:
    """Work in the background of the caller."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = asyncio.create_task(work())

    async def end(self) -> None:
        """Wait for its end, as long as that makes sense, then give it up; nothing of it runs afterwards."""
        try:
            await asyncio.wait({self._task}, timeout=LAST_WORDS_S)
        finally:
            self._task.cancel()
            await asyncio.wait({self._task})


async def events_of(lines: AsyncIterable[str]) -> AsyncIterator[Event]:
    """The server-sent events in lines of text."""
    reader = EventReader()
    async for line in lines:
        event = reader.feed(line)
        if event is not None:
            yield event
