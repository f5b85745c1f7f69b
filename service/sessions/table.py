"""Sessions: one agent's belief in one environment each, which acts exactly once a step."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from service.engine.jobs import Pondering
from service.models.hosted import Hosted
from service.models.repository import ModelRepository
from service.protocol.errors import ProblemError, step_conflict
from service.sessions.turn import Turn, expired, rfc3339
from service.sessions.watching import Watching
from service.stores.record import REMEMBER_EXPIRED_S, Record, now
from thick.planning.settings import PlannerSettings

REMEMBERED = 100_000
"""expired sessions remembered, so that they are answered with 410 instead of 404"""
MAX_DRAWN_SEED = 2**31 - 1
"""drawn seeds stay small enough for every client's integers"""


@dataclass(eq=False, kw_only=True)
class Session:
    """One live session. Its state lies in a slot that is never written again; an act swaps the slot."""

    session_id: str
    model: str
    version: str
    weights: str
    """SHA-256 of the weights it runs on"""
    seed: int
    planner: dict[str, Any]
    """overrides that its creator sent"""
    settings: PlannerSettings
    """the model's settings with these overrides"""
    deadline_ms: float | None = None
    """bound on each act that does not bring its own"""
    ponder_ms: float | None = None
    """for how long to plan ahead between acts; None for not at all"""
    pondering: Pondering | None = None
    """what plans ahead for the next act"""
    ttl_s: float
    created_at: float
    expires_at: float
    """as the store has it"""
    prolonged_to: float = 0.0
    """by uses that write nothing; in memory alone, so only while this process lives"""
    step: int = 0
    """acts since the reset"""
    first: bool = True
    """the next act starts an episode"""
    digest: bytes | None = None
    """content of the last request that was answered"""
    answer: bytes | None = None
    """its answer, msgpack"""
    revision: int = 0
    """writes of its record so far"""
    slot: int | None = None
    """where its state lies; None until it is read from the store"""
    hosted: Hosted | None = None
    """its model, once it is known to be loaded"""
    listed: bool = False
    """whether it is in the table (a session that is made by its first act gets there with the answer)"""
    ended: bool = False
    """deleted or expired: whoever waits for its turn must not go on"""
    waiting: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def turn(self, until: float | None = None) -> Turn:
        """Only one request at a time changes a session, in the order in which they came (``async with``).

        Args:
            until: when to stop waiting, s on the event loop's clock.

        Raises:
            ProblemError: ``queue_full`` where too many wait; ``deadline_exceeded``; ``session_not_found`` or
                ``session_expired`` where the session ended meanwhile.
        """
        return Turn(self, until)

    @property
    def ends_at(self) -> float:
        """When it expires here, s since the epoch. The store forgets a session a day after its own time."""
        return max(self.expires_at, min(self.prolonged_to, self.expires_at + REMEMBER_EXPIRED_S / 2))

    def prolong(self) -> None:
        """It was used without a change: its time begins anew."""
        self.prolonged_to = now() + self.ttl_s

    def stop_pondering(self) -> None:
        """What was planned ahead is of no use any more."""
        if self.pondering is not None:
            self.pondering.cancel()
            self.pondering = None

    def expect(self, step: int | None, digest: bytes) -> bytes | None:
        """The stored answer, if this request was answered already; None if it is the next one.

        Raises:
            ProblemError: ``step_conflict`` with the expected step.
        """
        if step is None or step == self.step:
            return None
        if step == self.step - 1 and self.answer is not None:
            if digest == self.digest:
                return self.answer
            raise step_conflict(
                self.step,
                step,
                why=f"step {step} was answered to another request; the session expects step {self.step}",
            )
        raise step_conflict(self.step, step)

    def head(self) -> dict[str, Any]:
        """What the store keeps in addition to state and answer."""
        return {
            "model": self.model,
            "version": self.version,
            "weights": self.weights,
            "seed": self.seed,
            "planner": self.planner,
            "deadline_ms": self.deadline_ms,
            "ponder_ms": self.ponder_ms,
            "ttl_s": self.ttl_s,
            "created_at": self.created_at,
            "step": self.step,
            "first": self.first,
            "digest": self.digest,
        }

    def follow(self, record: Record) -> None:
        """Become what the store has; the state itself is brought separately."""
        for name in ("step", "first", "digest", "seed"):
            setattr(self, name, record.head[name])
        self.revision, self.answer, self.expires_at = record.revision, record.answer, record.expires_at

    def view(self) -> dict[str, Any]:
        """The session as the API shows it."""
        manifest = self.hosted.manifest if self.hosted else None
        return {
            "session_id": self.session_id,
            "model": self.model,
            "version": self.version,
            "step": self.step,
            "observation_space": manifest.observation_space if manifest else {},
            "action_space": manifest.action_space if manifest else {},
            "planner": self.settings.to_json()
            | {
                "deadline_ms": self.deadline_ms,
                "ponder": self.ponder_ms is not None,
                "ponder_ms": self.ponder_ms,
            },
            "seed": self.seed,
            "created_at": rfc3339(self.created_at),
            # The stored time is certain; what imagining adds to it is shown where it matters.
            "expires_at": rfc3339(self.expires_at if self.expires_at > now() else self.ends_at),
            "ttl_s": self.ttl_s,
        }


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


def session_of(record: Record) -> Session:
    """The session in a record, without its state."""
    head = record.head
    return Session(
        session_id=record.session_id,
        model=head["model"],
        version=head["version"],
        weights=head["weights"],
        seed=head["seed"],
        planner=head["planner"],
        settings=PlannerSettings(),
        deadline_ms=head["deadline_ms"],
        ponder_ms=head.get("ponder_ms"),
        ttl_s=head["ttl_s"],
        created_at=head["created_at"],
        expires_at=record.expires_at,
        step=head["step"],
        first=head["first"],
        digest=head["digest"],
        answer=record.answer,
        revision=record.revision,
    )
