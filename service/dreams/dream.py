"""One dream resource: some imagined environments of one model that are stepped together, exactly once a step."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgpack
import numpy as np

from service.models.hosted import Hosted
from service.protocol.errors import ProblemError
from service.sessions.table import MAX_DRAWN_SEED
from service.sessions.turn import rfc3339
from service.stores.record import DREAM, KIND, Record, now
from thick.planning.randomness import Randomness
from thick.planning.settings import session_key


@dataclass(frozen=True)
class DreamStates:
    """Where the environments of a dream are. Never changed, only replaced."""

    rows: np.ndarray
    """``[count, row_bytes]`` uint8, as the runtime packs them"""
    starts: np.ndarray | None
    """``[count, row_bytes]`` where a reset leads; None for the model's own start, drawn anew"""
    terminated: np.ndarray
    """``[count]`` bool, ended and not reset yet"""

    def packed(self) -> bytes:
        """As a store keeps it."""
        same = self.starts is not None and bool((self.starts == self.starts[:1]).all())
        starts = None if self.starts is None else (self.starts[:1] if same else self.starts).tobytes()
        packed: bytes = msgpack.packb(
            [self.rows.tobytes(), starts, self.terminated.tobytes()], use_bin_type=True
        )
        return packed

    @classmethod
    def of(cls, packed: bytes, count: int) -> DreamStates:
        """The opposite of :meth:`packed`."""
        rows, starts, terminated = msgpack.unpackb(packed)
        made = np.frombuffer(rows, np.uint8).reshape(count, -1)
        begin = None
        if starts is not None:
            begin = np.broadcast_to(np.frombuffer(starts, np.uint8).reshape(-1, made.shape[1]), made.shape)
        return cls(made, begin, np.frombuffer(terminated, np.bool_))


@dataclass(eq=False, kw_only=True)
class Dream:
    """See the module."""

    dream_id: str
    model: str
    version: str
    weights: str
    """SHA-256 of the weights it runs on"""
    count: int
    seed: int
    sample: bool
    """draw what comes; otherwise the most likely comes"""
    ttl_s: float
    created_at: float
    expires_at: float
    step: int = 0
    """steps since all of it was reset"""
    clock: int = 0
    """steps and resets since the seed was set: randomness is a function of the seed and of this"""
    revision: int = 0
    digest: bytes | None = None
    """content of the last step that was answered"""
    answer: bytes | None = None
    """its answer, msgpack"""
    states: DreamStates | None = None
    """None until it is read from the store"""
    hosted: Hosted | None = None
    ended: bool = False
    """deleted or expired: whoever waits for its turn must not go on"""
    waiting: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def new(
        cls, hosted: Hosted, *, count: int, seed: int | None, sample: bool, ttl_s: float, **more: Any
    ) -> Dream:
        """A dream that nobody knows yet; ``more`` are fields."""
        at = now()
        return cls(
            dream_id=secrets.token_hex(16),
            model=hosted.name,
            version=hosted.version,
            weights=hosted.weights,
            count=count,
            seed=secrets.randbelow(MAX_DRAWN_SEED) if seed is None else seed,
            sample=sample,
            ttl_s=ttl_s,
            created_at=at,
            expires_at=at + ttl_s,
            hosted=hosted,
            **more,
        )

    def keys(self, seed: int | None = None) -> np.ndarray:
        """``[count]`` int64, randomness of each environment at this time.

        Args:
            seed: a new one, which sets the clock to 0.
        """
        own, clock = (self.seed, self.clock) if seed is None else (seed, 0)
        keys: np.ndarray = Randomness(_keys(own, self.count)).fold("dream").fold(clock).keys
        return keys

    def record(self, states: DreamStates, changes: dict[str, Any]) -> Record:
        """What a store keeps of the dream with these changes of its fields."""
        head = {name: changes.get(name, getattr(self, name)) for name in _HEAD}
        return Record(
            session_id=self.dream_id,
            revision=self.revision + 1,
            expires_at=now() + self.ttl_s,
            head={KIND: DREAM, **head},
            state=states.packed(),
            answer=changes.get("answer", self.answer),
        )

    @classmethod
    def stored(cls, record: Record) -> Dream:
        """The dream in a record; without its states where only the head was read."""
        dream = cls(
            dream_id=record.session_id,
            expires_at=record.expires_at,
            **{name: record.head[name] for name in _HEAD},
        )
        dream.follow(record)
        return dream

    def follow(self, record: Record) -> None:
        """Become what the store has."""
        for name in _HEAD:
            setattr(self, name, record.head[name])
        self.revision, self.expires_at, self.answer = record.revision, record.expires_at, record.answer
        self.states = None if record.state is None else DreamStates.of(record.state, self.count)

    def view(self) -> dict[str, Any]:
        """The dream as the API shows it, without observations."""
        manifest = self.hosted.manifest if self.hosted else None
        return {
            "dream_id": self.dream_id,
            "model": self.model,
            "version": self.version,
            "count": self.count,
            "step": self.step,
            "observation_space": manifest.observation_space if manifest else {},
            "action_space": manifest.action_space if manifest else {},
            "seed": self.seed,
            "sample": self.sample,
            "terminated": [] if self.states is None else self.states.terminated.tolist(),
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "ttl_s": self.ttl_s,
        }

    def gone(self) -> ProblemError:
        """Why it cannot be used any more."""
        if self.expires_at <= now():
            return dream_expired(self.dream_id, self.expires_at)
        return ProblemError("dream_not_found", f"dream {self.dream_id!r} was deleted")


@lru_cache(64)
def _keys(seed: int, count: int) -> np.ndarray:
    """One for each environment, the same for each of the same index in a larger dream."""
    return np.array([session_key(seed, index) for index in range(count)], np.int64)


_HEAD = (
    "model", "version", "weights", "count", "seed", "sample", "ttl_s", "created_at", "step", "clock", "digest",
)  # fmt: skip


def dream_expired(dream_id: str, at: float) -> ProblemError:
    """The problem of a dream that was not used for too long."""
    return ProblemError(
        "dream_expired",
        f"dream {dream_id!r} expired at {rfc3339(at)}: it was not used for its ttl_s; create a new one",
    )
