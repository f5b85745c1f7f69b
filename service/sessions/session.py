"""A session: one agent's belief in one environment, which acts exactly once a step."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from service.engine.jobs import Pondering
from service.models.hosted import Hosted
from service.protocol.errors import step_conflict
from service.sessions.turn import Turn, rfc3339
from service.stores.record import REMEMBER_EXPIRED_S, Record, now
from thick.planning.settings import PlannerSettings


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
