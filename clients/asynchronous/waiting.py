"""How asynchronous code waits: locks, sleep, lines. ``clients.waiting`` is its twin."""

from __future__ import annotations

from asyncio import Lock, sleep
from collections.abc import AsyncIterable, AsyncIterator

from service.protocol.events import Event, EventReader

__all__ = ["Lock", "events_of", "sleep"]


async def events_of(lines: AsyncIterable[str]) -> AsyncIterator[Event]:
    """The server-sent events in lines of text."""
    reader = EventReader()
    async for line in lines:
        event = reader.feed(line)
        if event is not None:
            yield event
