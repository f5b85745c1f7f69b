"""Sessions in an embedded SQLite file: one writer thread, group commit, off the event loop.

Whatever waits when the writer comes round is written in one transaction, so that the cost of a commit is
shared by all steps that were answered meanwhile. In WAL mode a commit survives the end of the process; with
``sync="power"`` it is also forced to the disk.

A record that comes alone need not go through the thread (``write_now``): handing it over and back takes longer than
the commit, which only copies it into the system's page cache. What can wait for a disk stays with the thread: forced
commits, and checkpoints.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import structlog

from service.stores.record import REMEMBER_EXPIRED_S, Record, StoreError, StoreLocked, read_record

log = structlog.get_logger("thick.store")

FORMAT = 1
"""``PRAGMA user_version`` of the files this release writes"""
GROUP = 512
"""most operations in one transaction"""
APART_S = 0.0001
"""records that come closer together than that share a commit in the thread: no single client is that quick"""
SLOW_S = 0.002
"""a commit on the caller's thread that took longer may have waited for the disk"""
PAUSE = 100.0
"""times as long none is tried after it: of the caller's time a hundredth may go into such waits"""
CHECKPOINT_BYTES = 4 * 2**20
"""written to the log, after which the thread copies it into the file"""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    head BLOB NOT NULL,
    state BLOB,
    answer BLOB
);
"""

_UPSERT = """
INSERT INTO sessions (id, revision, expires_at, head, state, answer) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, expires_at = excluded.expires_at,
    head = excluded.head, state = excluded.state, answer = excluded.answer
"""

_SELECT = "SELECT id, revision, expires_at, head, state, answer FROM sessions"

Operation = Callable[[sqlite3.Connection], Any]
Entry = tuple[Operation, asyncio.Future[Any]]
"""what is asked of the thread, and who waits for it"""


class _Signal(Enum):
    """What the thread is sent in addition to operations."""

    LOOK = "look at the log's size"
    STOP = "end after what came before"


class SQLiteStore:
    """See ``service.stores.record.SessionStore``. The file belongs to one process at a time."""

    shared = False
    durable = True

    def __init__(self, path: Path, *, sync: Literal["process", "power"] = "process") -> None:
        self.path = path
        self._sync = sync
        self._queue: queue.SimpleQueue[Entry | _Signal] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: sqlite3.Connection | None = None
        self._using = threading.Lock()
        """held by whoever uses the connection"""
        self._logged = 0
        """bytes since the last checkpoint, about"""
        self._not_before = 0.0
        """when the next record may be written at once, s"""

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = await asyncio.to_thread(self._connect)
        self._thread = threading.Thread(
            target=self._write_forever, args=(self._connection,), name="thick-store", daemon=True
        )
        self._thread.start()

    async def load(self) -> list[Record]:
        rows = await self._submit(
            lambda connection: connection.execute(
                "SELECT id, revision, expires_at, head FROM sessions"
            ).fetchall()
        )
        records = [read_record(*row, whole=False) for row in rows]
        return [record for record in records if record is not None]

    async def read(self, session_id: str) -> Record | None:
        row = await self._submit(
            lambda connection: connection.execute(f"{_SELECT} WHERE id = ?", (session_id,)).fetchone()
        )
        return None if row is None else read_record(*row, whole=True)

    async def revision(self, session_id: str) -> int | None:
        record = await self.read(session_id)
        return None if record is None else record.revision

    async def write(self, record: Record) -> None:
        row = _row(record)
        await self._submit(lambda connection: connection.execute(_UPSERT, row))
        self._logged += _size(row)

    def write_now(self, record: Record) -> bool:
        if self._sync == "power" or self._thread is None or not self._queue.empty():
            return False
        began = time.perf_counter()
        if began < self._not_before or not self._using.acquire(blocking=False):
            return False
        try:
            assert self._connection is not None
            row = _row(record)
            self._connection.execute(_UPSERT, row)  # a transaction of its own
        except sqlite3.Error:  # once more through the thread, which says why
            return False
        finally:
            self._using.release()
        ended = time.perf_counter()
        self._not_before = ended + (APART_S if ended - began < SLOW_S else PAUSE * (ended - began))
        self._logged += _size(row)
        if self._logged > CHECKPOINT_BYTES:
            self._queue.put(_Signal.LOOK)
        return True

    async def delete(self, session_id: str) -> None:
        await self._submit(
            lambda connection: connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
        )

    async def sweep(self, now: float) -> None:
        def sweep(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE sessions SET state = NULL, answer = NULL WHERE expires_at <= ? AND state IS NOT NULL",
                (now,),
            )
            connection.execute("DELETE FROM sessions WHERE expires_at <= ?", (now - REMEMBER_EXPIRED_S,))

        await self._submit(sweep)

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(_Signal.STOP)
            await asyncio.to_thread(thread.join)

    # -- the writer --------------------------------------------------------------------------------------

    async def _submit(self, operation: Operation) -> Any:
        if self._thread is None or self._loop is None:
            raise StoreError(f"{self.path} is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put((operation, future))
        return await future

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path.parent} cannot be made: {error.strerror}") from error
        try:
            return self._open_file()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                if "locked" in str(error):
                    raise StoreLocked(f"{self.path} is in use by another server") from error
                raise StoreError(f"{self.path}: {error}") from error
            kept = self._put_aside()
            try:
                connection = self._open_file()
                rescued = self._rescue(kept, connection)
            except sqlite3.DatabaseError as again:
                raise StoreError(f"{self.path}: {again}") from again
            log.error(
                "the session file was damaged; a new one has what could be read of it",
                path=str(self.path),
                kept=str(kept),
                sessions_rescued=rescued,
                reason=str(error),
            )
            return connection

    def _open_file(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=0.2, isolation_level=None, check_same_thread=False)
        try:
            # Exclusive: two servers that advance the same sessions would contradict each other.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._sync == 'power' else 'NORMAL'}")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # it waits for the disk: the thread's work
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise StoreError(
                    f"{self.path} has format {version}, this release reads {FORMAT}; name another file"
                )
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute("COMMIT")
            # A file that another program laid out differently would fail at the first act otherwise.
            connection.execute(f"{_SELECT} LIMIT 1")
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_aside(self) -> Path:
        kept = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(kept.with_name(kept.name + suffix))
        return kept

    def _rescue(self, damaged: Path, connection: sqlite3.Connection) -> int:
        """Copy every record that a damaged file still has whole; returns their number.

        Rows are read from both ends, each time up to the first page that cannot be read.
        """
        rescued: set[str] = set()
        for order in ("ASC", "DESC"):
            with contextlib.closing(sqlite3.connect(damaged)) as old, contextlib.suppress(sqlite3.Error):
                for row in old.execute(f"{_SELECT} ORDER BY rowid {order}"):
                    if row[0] not in rescued and read_record(*row, whole=True) is not None:
                        connection.execute(_UPSERT, row)
                        rescued.add(row[0])
        return len(rescued)

    def _write_forever(self, connection: sqlite3.Connection) -> None:
        with contextlib.closing(connection):
            while True:
                entries = [self._queue.get()]
                with contextlib.suppress(queue.Empty):
                    while len(entries) < GROUP:
                        entries.append(self._queue.get_nowait())
                work = [entry for entry in entries if not isinstance(entry, _Signal)]
                with self._using:
                    if work:
                        self._commit(connection, work)
                    if self._logged > CHECKPOINT_BYTES:
                        self._logged = 0
                        with contextlib.suppress(
                            sqlite3.Error
                        ):  # the log stays as it is, and grows until the next
                            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                if _Signal.STOP in entries:
                    return

    def _commit(self, connection: sqlite3.Connection, work: list[Entry]) -> None:
        """All of it in one transaction; if that fails, none of it happened and every waiting call gets the error."""
        outcome: list[tuple[asyncio.Future[Any], Any, Exception | None]]
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [operation(connection) for operation, _ in work]
            connection.execute("COMMIT")
            outcome = [(future, result, None) for (_, future), result in zip(work, results, strict=True)]
        except Exception as error:  # whatever it was: the writer must go on, and every waiting call get it
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            log.error("the session store cannot be written", path=str(self.path), reason=str(error))
            outcome = [(future, None, StoreError(f"{self.path.name}: {error}")) for _, future in work]

        def resolve() -> None:
            for future, result, error in outcome:
                if not future.done():
                    if error is not None:
                        future.set_exception(error)
                    else:
                        future.set_result(result)

        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits for the outcome
            self._loop.call_soon_threadsafe(resolve)


def _row(record: Record) -> tuple[Any, ...]:
    return (
        record.session_id, record.revision, record.expires_at, record.packed_head, record.state, record.answer,
    )  # fmt: skip


def _size(row: tuple[Any, ...]) -> int:
    """Bytes that a row adds to the log, about: whole pages, those of the index included."""
    return 8192 + sum(len(part) for part in row[3:] if part is not None)
