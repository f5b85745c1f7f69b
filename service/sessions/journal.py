"""Between the sessions in memory and the store: a change is durable before it is visible."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from service.engine.engine import Engine
from service.engine.slots import as_row
from service.models.hosted import Hosted
from service.operations.metrics import Metrics
from service.protocol.errors import ProblemError
from service.sessions.session import Session
from service.sessions.table import SessionTable
from service.sessions.turn import expired
from service.stores.record import Record, RevisionConflict, SessionStore, StoreError, is_dream, now

log = structlog.get_logger("thick.sessions")


class Journal:
    """Finds sessions, brings their states onto the device, and writes every change through to the store.

    Args:
        dream: what takes up the dreams that the store has too.
    """

    def __init__(
        self,
        table: SessionTable,
        store: SessionStore,
        engine: Engine,
        metrics: Metrics,
        *,
        dream: Callable[[Record], object],
    ) -> None:
        self._dream = dream
        self.store = store
        self._table = table
        self._engine = engine
        self._metrics = metrics

    async def adopt_all(self) -> int:
        """Take up everything that the store has, and end what another replica ended; returns how many sessions live.

        Raises:
            ProblemError: ``store_unavailable``.
        """
        before = [each for each in self._table.all() if each.revision] if self.store.shared else []
        records = await _unless_down(self.store.load())
        for record in records:
            (self._dream if is_dream(record) else self._table.adopt)(record)
        there = {record.session_id for record in records}
        for session in before:  # known here before the store was read: whoever lacks it there was deleted
            if session.session_id not in there and not session.ended and not session.lock.locked():
                self._table.remove(session)
        self._metrics.sessions.set(len(self._table))
        return len(self._table)

    async def find(self, session_id: str) -> Session:
        """A live session.

        Raises:
            ProblemError: ``session_not_found``, ``session_expired``, ``store_unavailable``.
        """
        if self.store.shared:
            late = self._table.overdue(session_id)
            if late:  # for this replica
                await _unless_down(self._in_use_elsewhere(late[0]))
        session = self._table.find(session_id)
        if session is None and self.store.shared:
            record = await _unless_down(self.store.read(session_id))
            if record is not None and not is_dream(record):
                # Another request may have brought it here while this one was reading.
                session = self._table.find(session_id) or self._table.adopt(record)
                if session is None:
                    raise expired(session_id, record.expires_at)
                self._metrics.adoptions.inc()
        if session is None:
            raise ProblemError("session_not_found", f"session {session_id[:64]!r}: there is none")
        return session

    async def current(self, session: Session) -> None:
        """Make the session in memory what the store says, state and answer included. In the session's turn.

        Raises:
            ProblemError: ``session_not_found`` where another replica deleted it, ``model_not_ready``, ...
        """
        if self.store.shared and session.listed:
            revision = await _unless_down(self.store.revision(session.session_id))
            if revision is None:
                self._table.remove(session)
                self._metrics.sessions.set(len(self._table))
                raise ProblemError("session_not_found", f"session {session.session_id!r} was deleted")
            if revision != session.revision:
                self._table.drop_state(session)
                self._metrics.adoptions.inc()
        hosted = self._table.attach(session)
        if session.slot is not None:
            return
        record = await _unless_down(self.store.read(session.session_id)) if session.revision else None
        if record is None:
            self._table.remove(session)
            self._metrics.sessions.set(len(self._table))
            raise ProblemError(
                "session_not_found", f"session {session.session_id!r}: the store has lost its state"
            )
        session.follow(record)
        if record.state is None:
            session.slot = hosted.slots.retain(hosted.initial_slot)
            return
        try:
            row = as_row(record.state, hosted.slots.layout.row_bytes)
        except ValueError as error:
            raise ProblemError(
                "conflict",
                "the stored state has another layout than this release's models; create a new session",
            ) from error
        putting = self._engine.call(lambda: hosted.slots.put(row))
        try:
            (session.slot,) = await asyncio.shield(putting)
        except asyncio.CancelledError:
            putting.add_done_callback(lambda done: _put_back(hosted, done))
            raise

    async def write(
        self, session: Session, *, state: bytes | None, slot: int | None = None, **changes: Any
    ) -> None:
        """Make a change of the session durable, then visible. In the session's turn.

        Args:
            state: the row that belongs to the changed session; None for a fresh agent.
            slot: the new slot, which the session takes over; None leaves it where it is.
            changes: fields of ``Session``.

        Raises:
            ProblemError: ``store_unavailable``: nothing has changed.
            RevisionConflict: another replica was faster: nothing has changed here.
        """
        record = _record(session, state, changes)
        began = time.perf_counter()
        await _unless_down(self.store.write(record))
        self._metrics.phase("store", time.perf_counter() - began)
        self._show(session, record, slot, changes)

    def write_now(self, session: Session, *, state: bytes | None, slot: int | None, **changes: Any) -> bool:
        """The same without waiting; False, and nothing has changed, where the store cannot do that now."""
        record = _record(session, state, changes)
        began = time.perf_counter()
        if not self.store.write_now(record):
            return False
        self._metrics.phase("store", time.perf_counter() - began)
        self._show(session, record, slot, changes)
        return True

    def _show(self, session: Session, record: Record, slot: int | None, changes: dict[str, Any]) -> None:
        """Change the session as its record says."""
        for name, value in changes.items():
            setattr(session, name, value)
        session.revision, session.expires_at = record.revision, record.expires_at
        if slot is not None:
            session.stop_pondering()
            old, session.slot = session.slot, slot
            if old is not None and session.hosted is not None:
                session.hosted.slots.release(old)
        if not session.listed:
            self._table.add(session)
            self._metrics.sessions.set(len(self._table))

    async def state(self, session: Session) -> bytes:
        """The row of a session's state."""
        hosted, slot = session.hosted, session.slot
        assert hosted is not None and slot is not None
        return bytes(await self._engine.call(lambda: hosted.slots.read([slot]).tobytes()))

    async def delete(self, session: Session) -> None:
        """End a session, in the store first."""
        await _unless_down(self.store.delete(session.session_id))
        self._table.remove(session)
        self._metrics.sessions.set(len(self._table))

    async def sweep(self) -> None:
        """End the sessions that were not used for too long."""
        try:
            for session in self._table.overdue():
                if not await self._in_use_elsewhere(session):
                    self._expire(session)
            await self.store.sweep(now())
        except StoreError as error:
            log.warning("expired sessions stay in the store for now", reason=str(error))
        self._metrics.sessions.set(len(self._table))

    async def _in_use_elsewhere(self, session: Session) -> bool:
        """Whether another replica has used a session whose time is over here."""
        record = await self.store.read(session.session_id) if self.store.shared else None
        if record is None or record.expires_at <= now():
            return False
        session.expires_at = record.expires_at
        return True

    def _expire(self, session: Session) -> None:
        if session.ends_at <= now() and not session.lock.locked():
            log.info("session expired", session_id=session.session_id, model=session.model, step=session.step)
            self._table.remove(session, expired=True)


def _record(session: Session, state: bytes | None, changes: dict[str, Any]) -> Record:
    """What the store keeps of a session with these changes."""
    head = session.head() | changes
    answer = head.pop("answer", session.answer)
    return Record(
        session.session_id, session.revision + 1, now() + session.ttl_s, head, state=state, answer=answer
    )


def _put_back(hosted: Hosted, done: asyncio.Future[list[int]]) -> None:
    """Release what was brought onto the device for a request that is gone."""
    if not done.cancelled() and done.exception() is None:
        for slot in done.result():
            hosted.slots.release(slot)


async def _unless_down(call: Any) -> Any:
    try:
        return await call
    except StoreError as error:
        raise ProblemError("store_unavailable", f"{error}; nothing has changed, try again") from error


__all__ = ["Journal", "RevisionConflict"]
