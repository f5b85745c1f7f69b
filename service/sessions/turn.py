"""A session's turn: one request at a time changes it, in the order in which they came."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol

from service.protocol.errors import ProblemError
from service.stores.record import now

WAITING_ACTS = 16
"""acts of one session that may wait for each other; beyond, 429"""


class Turning(Protocol):
    """A session, as far as its turn is concerned (``service.sessions.session.Session``)."""

    session_id: str
    waiting: int
    lock: asyncio.Lock
    ended: bool

    @property
    def ends_at(self) -> float: ...


class Turn:
    """See :meth:`Session.turn`. Whoever goes on in another task takes and ends it instead of ``async with``."""

    __slots__ = ("_session", "_until")

    def __init__(self, session: Turning, until: float | None) -> None:
        self._session, self._until = session, until

    async def take(self) -> None:
        """Wait for it."""
        session = self._session
        if session.waiting >= WAITING_ACTS:
            raise ProblemError(
                "queue_full", f"session {session.session_id}: {session.waiting} requests of it wait already"
            )
        session.waiting += 1
        try:
            if session.lock.locked() or session.waiting > 1:
                async with asyncio.timeout_at(self._until):
                    await session.lock.acquire()
            else:  # nothing to wait for
                await session.lock.acquire()
        except TimeoutError as error:
            raise ProblemError(
                "deadline_exceeded",
                "the deadline passed while an earlier request of the session ran; nothing has changed",
            ) from error
        finally:
            session.waiting -= 1
        if session.ended:
            session.lock.release()
            raise gone(session)

    def end(self) -> None:
        """Let the next request of the session go on."""
        self._session.lock.release()

    async def __aenter__(self) -> None:
        await self.take()

    async def __aexit__(self, *raised: object) -> None:
        self.end()


def rfc3339(at: float) -> str:
    """A time as the API writes it: UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def gone(session: Turning) -> ProblemError:
    """Why a session that ended cannot be used."""
    if session.ends_at <= now():
        return expired(session.session_id, session.ends_at)
    return ProblemError("session_not_found", f"session {session.session_id!r} was deleted")


def expired(session_id: str, at: float) -> ProblemError:
    """The problem of a session that was not used for too long."""
    return ProblemError(
        "session_expired",
        f"session {session_id!r} expired at {rfc3339(at)}: it was not used for its ttl_s; create a new one",
    )
