"""What the SQLite store writes on the caller's thread, and what it leaves to its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.stores import sqlite
from service.stores.record import Record, StoreError
from service.stores.sqlite import SQLiteStore


def record(revision: int, session: str = "a" * 32, state: bytes = b"state") -> Record:
    return Record(session, revision, 1e12, {"step": revision}, state, b"answer")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "sessions.sqlite")
    await store.open()
    yield store
    await store.close()


async def at_rest(store: SQLiteStore) -> None:
    """Returns once the thread waits for work."""
    async with asyncio.timeout(10):
        while not store._queue.empty() or store._using.locked():
            await asyncio.sleep(0.001)


async def test_a_record_that_comes_alone_is_there_at_once(store: SQLiteStore) -> None:
    assert store.write_now(record(1))
    found = await store.read("a" * 32)
    assert found == record(1)


async def test_records_that_come_together_share_a_commit(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "APART_S", 1000.0)
    assert store.write_now(record(1))
    assert not store.write_now(record(2))
    await store.write(record(2))
    found = await store.read("a" * 32)
    assert found is not None and found.revision == 2


async def test_a_slow_commit_sends_the_next_ones_through_the_thread(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "APART_S", 0.0)
    monkeypatch.setattr(sqlite, "SLOW_S", 0.0)  # whatever it took was slow
    monkeypatch.setattr(sqlite, "PAUSE", 1e9)
    assert store.write_now(record(1))
    assert not store.write_now(record(2))


async def test_what_must_reach_the_disk_is_never_waited_for(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "sessions.sqlite", sync="power")
    await store.open()
    assert not store.write_now(record(1))
    await store.close()


async def test_nothing_is_written_at_once_while_the_thread_has_the_file(store: SQLiteStore) -> None:
    inside, go = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        inside.set()
        go.wait(10)

    held = asyncio.ensure_future(store._submit(hold))
    await asyncio.to_thread(inside.wait, 10)
    assert not store.write_now(record(1))
    go.set()
    await held
    assert await store.read("a" * 32) is None


async def test_what_cannot_be_written_at_once_is_said_by_the_usual_way(store: SQLiteStore) -> None:
    assert store._connection is not None
    store._connection.execute("DROP TABLE sessions")
    assert not store.write_now(record(1))
    with pytest.raises(StoreError, match="no such table"):
        await store.write(record(1))


async def test_the_log_is_copied_into_the_file_by_the_thread(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "APART_S", 0.0)
    monkeypatch.setattr(sqlite, "SLOW_S", 1e9)
    monkeypatch.setattr(sqlite, "CHECKPOINT_BYTES", 50_000)
    before = store.path.stat().st_size
    revision = 0
    async with asyncio.timeout(60):
        while store.path.stat().st_size <= before:  # writes go to the log, a checkpoint to the file
            revision += 1
            store.write_now(record(revision, session=f"{revision:032}", state=b"x" * 3000))
            await asyncio.sleep(0.001)  # the thread, too, wants its turn
    await at_rest(store)
    assert len(await store.load()) > 0


async def test_after_closing_nothing_is_taken(store: SQLiteStore) -> None:
    await store.close()
    assert not store.write_now(record(1))
    with pytest.raises(StoreError, match="closed"):
        await store.write(record(1))
