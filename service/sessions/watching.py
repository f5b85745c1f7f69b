"""Who watches a session: its latest events, kept for those who come late or come back.

For a watcher an act costs no more than an entry in a list; pictures are made when somebody is notified of it, once for
all of them.
A slow watcher loses events, and gets their number.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

BUFFER = 128
"""events of a session that are kept"""
LINGER_S = 60.0
"""how long a session's events are kept after its last watcher left, s"""
ACT, RESET, END, GAP = "act", "reset", "end", "gap"


@dataclass(eq=False)
class Happened:
    """One event of a session."""

    number: int
    """greater than those before it, also after a restart of the server"""
    name: str
    """act, reset or end; to a watcher also gap"""
    data: Mapping[str, Any]
    drawn: asyncio.Future[bytes] | None = None
    """as it is sent, from the first watcher on that gets it: pictures are made once, however many watch"""


@dataclass
class _Watched:
    """The events of one session."""

    first: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    next: int = 0
    events: deque[Happened] = field(default_factory=lambda: deque(maxlen=BUFFER))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """set when the next event comes, which has another one after it: no watcher can miss what another one saw"""
    watchers: int = 0
    left_at: float = 0.0

    def __post_init__(self) -> None:
        self.next = self.first

    def add(self, name: str, data: Mapping[str, Any]) -> None:
        self.events.append(Happened(self.next, name, data))
        self.next += 1
        self.notify()

    def notify(self) -> None:
        """Wake whoever waits."""
        self.changed.set()
        self.changed = asyncio.Event()


class Watching:
    """The watched sessions of this process.

    Args:
        enabled: otherwise nobody can watch.
        observations: whether events hold what agents see.
    """

    def __init__(self, *, enabled: bool, observations: bool) -> None:
        self.enabled, self.observations = enabled, observations
        self._sessions: dict[str, _Watched] = {}
        self._closed = False

    def watched(self, session_id: str) -> bool:
        """Whether somebody watches a session, or did a moment ago."""
        return session_id in self._sessions

    def acted(self, session_id: str, observation: Any, act: Mapping[str, Any]) -> None:
        """A session acted.

        Args:
            observation: what it saw, validated.
            act: step, action, reward, is_first, plan, timing.
        """
        watched = self._sessions.get(session_id)
        if watched is not None:
            watched.add(ACT, {**act, "observation": observation if self.observations else None})

    def reset(self, session_id: str) -> None:
        """A session was reset."""
        if (watched := self._sessions.get(session_id)) is not None:
            watched.add(RESET, {})

    def ended(self, session_id: str) -> None:
        """A session was deleted, or expired."""
        if (watched := self._sessions.pop(session_id, None)) is not None:
            watched.add(END, {})

    def sweep(self) -> None:
        """Forget the events of sessions that nobody has watched for a while."""
        oldest = time.monotonic() - LINGER_S
        for session_id, watched in list(self._sessions.items()):
            if not watched.watchers and watched.left_at < oldest:
                del self._sessions[session_id]

    def close(self) -> None:
        """Notify every watcher that the server is about to stop."""
        self._closed = True
        for watched in self._sessions.values():
            watched.notify()

    async def follow(
        self, session_id: str, after: int | None = None, *, alive: Callable[[], bool] = lambda: True
    ) -> AsyncIterator[Happened]:
        """The kept events of a session, and those to come until it ends; ``gap`` for those that were lost.

        Args:
            after: number of the last event that the watcher knows; None for whatever is kept.
            alive: whether the session still is; one that ended before this began is reported as one that ends.
        """
        watched = self._sessions.setdefault(session_id, _Watched())
        if not alive():
            self.ended(session_id)
        watched.watchers += 1
        known = after
        try:
            if known is not None and known >= watched.next:  # of a server whose clock is ahead
                known = watched.first - 1
                yield Happened(known, GAP, {"missed": None})
            while not self._closed:
                changed = watched.changed
                for happened in list(watched.events):
                    if known is not None and happened.number <= known:
                        continue
                    if known is not None and happened.number > known + 1:
                        told = known >= watched.first - 1  # by this process; else nobody knows how many
                        missed = happened.number - known - 1 if told else None
                        yield Happened(happened.number - 1, GAP, {"missed": missed})
                    known = happened.number
                    yield happened
                    if happened.name == END:
                        return
                await changed.wait()
        finally:
            watched.watchers -= 1
            watched.left_at = time.monotonic()
