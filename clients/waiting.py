"""How blocking code waits: locks, sleep, lines. ``clients.asynchronous.waiting`` is its twin."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from threading import RLock as Lock

from service.protocol.events import Event, read_events

__all__ = ["Background", "Lock", "Signal", "events_of", "sleep"]

sleep = time.sleep
LAST_WORDS_S = 2.0
"""how long work in the background may take to end; it cannot be stopped from outside, and ends with the process"""


class Signal:
    """Something happened: whoever waits goes on."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """It happened."""
        self._event.set()

    def wait(self, seconds: float | None) -> None:
        """Returns once it happened since the last wait, or after so many seconds."""
        self._event.wait(seconds)
        self._event.clear()


class Background:
    """Work in the background of the caller."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, name="thick-realtime", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait for its end, as long as that makes sense."""
        self._thread.join(LAST_WORDS_S)


def events_of(lines: Iterable[str]) -> Iterator[Event]:
    """The server-sent events in lines of text."""
    return read_events(lines)
