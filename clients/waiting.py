"""How blocking code waits: locks, sleep, lines. ``clients.asynchronous.waiting`` is its twin."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from threading import RLock as Lock

from service.protocol.events import Event, read_events

__all__ = ["Lock", "events_of", "sleep"]

sleep = time.sleep


def events_of(lines: Iterable[str]) -> Iterator[Event]:
    """The server-sent events in lines of text."""
    return read_events(lines)
