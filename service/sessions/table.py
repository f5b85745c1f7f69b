"""The sessions that are live here: found, attached to their models, and evicted."""

from __future__ import annotations

import contextlib
import secrets
from collections import OrderedDict
from typing import Any

from service.models.hosted import Hosted
from service.models.repository import ModelRepository
from service.protocol.errors import ProblemError
from service.sessions.session import Session, session_of
from service.sessions.turn import expired
from service.sessions.watching import Watching
from service.stores.record import Record, now
from thick.planning.settings import PlannerSettings

REMEMBERED = 100_000
"""expired sessions remembered, so that they are answered with 410 instead of 404"""
MAX_DRAWN_SEED = 2**31 - 1
"""drawn seeds stay small enough for every client's integers"""


class SessionTable:
    """The live sessions of this process, and which ones expired."""

    def __init__(self, repository: ModelRepository, watching: Watching, *, limit: int) -> None:
        self._watching = watching
        self._repository = repository
        self._limit = limit
        self._sessions: dict[str, Session] = {}
        self._expired: OrderedDict[str, float] = OrderedDict()
        self._reserved = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[Session]:
        """Live sessions, oldest first."""
        at = now()
        return [session for session in self._sessions.values() if session.ends_at > at]

    def find(self, session_id: str) -> Session | None:
        """A live session of this process, or None where another replica may have it.

        Raises:
            ProblemError: ``session_expired``.
        """
        session = self._sessions.get(session_id)
        if session is not None:
            if session.ends_at <= now() and not session.lock.locked():
                raise expired(session_id, session.ends_at)
            return session
        if session_id in self._expired:
            raise expired(session_id, self._expired[session_id])
        return None

    def new(
        self,
        hosted: Hosted,
        *,
        seed: int | None,
        planner: dict[str, Any],
        settings: PlannerSettings,
        ttl_s: float,
        **more: Any,
    ) -> Session:
        """A session that is not in the table yet; ``more`` are fields of ``Session``."""
        at = now()
        return Session(
            session_id=secrets.token_hex(16),
            model=hosted.name,
            version=hosted.version,
            weights=hosted.weights,
            seed=secrets.randbelow(MAX_DRAWN_SEED) if seed is None else seed,
            planner=planner,
            settings=settings,
            ttl_s=ttl_s,
            created_at=at,
            expires_at=at + ttl_s,
            hosted=hosted,
            **more,
        )

    @contextlib.contextmanager
    def room(self) -> Any:
        """Keep a place while a session is made.

        Raises:
            ProblemError: ``too_many_sessions``.
        """
        if len(self._sessions) + self._reserved >= self._limit:
            raise ProblemError(
                "too_many_sessions",
                f"there are {len(self._sessions)} sessions, the limit is {self._limit}; "
                "delete some, or let them expire",
                retry_after=10.0,
            )
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1

    def add(self, session: Session) -> None:
        """Put a session into the table; its model is held from then on."""
        session.listed = True
        self._sessions[session.session_id] = session
        if session.hosted is not None:
            self._repository.session_began(session.hosted)

    def adopt(self, record: Record) -> Session | None:
        """Take up a session that the store has; None (and remembered as expired) if its time is over.

        One that is known here stays the same object: requests may be waiting for their turn with it.
        """
        known = self._sessions.get(record.session_id)
        if known is not None:
            if record.revision > known.revision and not known.lock.locked():  # another replica used it
                self.drop_state(known)
                known.follow(record)
            return known
        if record.expires_at <= now():
            self._remember_expired(record.session_id, record.expires_at)
            return None
        session = session_of(record)
        self.add(session)
        return session

    def attach(self, session: Session) -> Hosted:
        """The model of a session, which must be loaded.

        Raises:
            ProblemError: ``model_not_ready``; ``conflict`` where its weights are others than the session
                began with.
        """
        if session.hosted is not None and session.hosted.loaded:
            return session.hosted
        hosted = self._repository.for_session(session.model, session.version)
        if hosted.weights != session.weights:
            raise ProblemError(
                "conflict",
                f"model {session.model!r} version {session.version!r} has other weights "
                "than the session began with",
            )
        if session.hosted is not hosted:
            if session.hosted is not None and session.listed:
                session.hosted.sessions -= 1
            session.hosted = hosted
            assert hosted.runtime is not None
            session.settings = hosted.runtime.settings(session.planner)
            if session.listed:
                self._repository.session_began(hosted)
        return hosted

    def attach_all(self) -> None:
        """Hold the models of all live sessions, where they are loaded."""
        for session in self.all():
            with contextlib.suppress(ProblemError):
                self.attach(session)

    def remove(self, session: Session, *, expired: bool = False) -> None:
        """End a session and give back what it holds."""
        session.ended = True
        self._watching.ended(session.session_id)
        self.drop_state(session)
        if self._sessions.pop(session.session_id, None) is not None and session.hosted is not None:
            self._repository.session_ended(session.hosted)
        if expired:
            self._remember_expired(session.session_id, session.ends_at)

    def drop_state(self, session: Session) -> None:
        """Give the slot back; the state is read from the store again when it is needed."""
        session.stop_pondering()
        if session.slot is not None and session.hosted is not None and session.hosted.loaded:
            session.hosted.slots.release(session.slot)
        session.slot = None

    def overdue(self, session_id: str | None = None) -> list[Session]:
        """Sessions whose time is over and that nobody is using; of them all, or this one if it is one."""
        at = now()
        among = self._sessions.values() if session_id is None else [self._sessions.get(session_id)]
        return [s for s in among if s is not None and s.ends_at <= at and not s.lock.locked()]

    def _remember_expired(self, session_id: str, at: float) -> None:
        self._expired[session_id] = at
        while len(self._expired) > REMEMBERED:
            self._expired.popitem(last=False)
