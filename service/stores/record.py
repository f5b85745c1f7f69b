"""What is kept of a session, written before the answer of the step leaves the server, and what a store can do.

A record is written whole or not at all.
"""

from __future__ import annotations

import time
import zlib
from typing import Any, NamedTuple, Protocol

import msgpack
import structlog

log = structlog.get_logger("thick.store")

REMEMBER_EXPIRED_S = 24 * 3600.0
"""how long an expired session is distinguished from one that never was, s"""


KIND, DREAM = "kind", "dream"
"""entry of a head that says what the record is of; a session's has none"""


class StoreError(Exception):
    """The store does not answer, or cannot be written: disk full, server gone, file damaged."""


class StoreLocked(StoreError):
    """Another process has the store."""


class RevisionConflict(Exception):
    """Another replica advanced the session in the meantime."""


class Record(NamedTuple):
    """One session as it is stored."""

    session_id: str
    revision: int
    """counts the writes of this session; a write says which revision it follows"""
    expires_at: float
    """s since the epoch"""
    head: dict[str, Any]
    """model, version, seed, step, ... : plain values (``Session.head``)"""
    state: bytes | None = None
    """the state's row (``thick.runtimes.layout``); None where only the head was read"""
    answer: bytes | None = None
    """msgpack of the last answer, for a step that is asked again"""

    @property
    def packed_head(self) -> bytes:
        """The head as bytes, with checksums: what a damaged disk gives back must not pass for a belief."""
        sums = [self.revision, _checksum(self.state), _checksum(self.answer)]
        packed: bytes = msgpack.packb([self.head, sums], use_bin_type=True)
        return _checksum(packed).to_bytes(4, "little") + packed


def read_record(
    session_id: str,
    revision: int,
    expires_at: float,
    packed_head: bytes,
    state: bytes | None = None,
    answer: bytes | None = None,
    *,
    whole: bool,
) -> Record | None:
    """A record out of what a store kept; None, and a line in the log, where that is damaged.

    Args:
        whole: whether state and answer were read too.
    """
    try:
        if _checksum(packed_head[4:]) != int.from_bytes(packed_head[:4], "little"):
            raise ValueError("the head is not what was written")
        head, (counted, *sums) = msgpack.unpackb(packed_head[4:], raw=False)
        if counted != revision or (whole and sums != [_checksum(state), _checksum(answer)]):
            raise ValueError("the parts are not of one write")
    except (ValueError, TypeError) as error:
        log.error("a stored session is damaged and is left out", session_id=session_id, reason=str(error))
        return None
    return Record(session_id, revision, expires_at, head, state, answer)


def is_dream(record: Record) -> bool:
    """Whether a record is of a dream, not of a session."""
    return record.head.get(KIND) == DREAM


def _checksum(part: bytes | None) -> int:
    return -1 if part is None else zlib.crc32(part)


class SessionStore(Protocol):
    """What every store can do. All methods raise ``StoreError`` when the store cannot be reached or
    written."""

    shared: bool
    """whether other replicas may change the same sessions"""
    durable: bool
    """whether anything outlives the process"""

    async def open(self) -> None:
        """Make ready; called once, before anything else."""

    async def load(self) -> list[Record]:
        """Heads (without state and answer) of all sessions, expired ones included; damaged ones are left out."""

    async def read(self, session_id: str) -> Record | None:
        """The whole record of a session; None where there is none, or a damaged one."""

    async def revision(self, session_id: str) -> int | None:
        """The revision of a session; None where there is none."""

    async def write(self, record: Record) -> None:
        """Keep a record that follows ``record.revision - 1``; returns once it is durable.

        Raises:
            RevisionConflict: the stored revision is another one (shared stores only).
        """

    def write_now(self, record: Record) -> bool:
        """The same without waiting, where it is durable within a moment; False, and nothing has changed, where
        ``write`` must be used."""

    async def delete(self, session_id: str) -> None:
        """Forget a session."""

    async def sweep(self, now: float) -> None:
        """Drop the states of sessions that expired, and forget those that did so long ago."""

    async def close(self) -> None:
        """Write what is pending and let go."""


def now() -> float:
    """Seconds since the epoch."""
    return time.time()
