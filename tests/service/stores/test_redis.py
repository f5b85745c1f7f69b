"""What the Redis store asks of its server, a real one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.stores import redis as module
from service.stores.record import Record
from service.stores.redis import PREFIX, RedisStore
from tests.faults.stores import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder: Path = tmp_path_factory.mktemp("redis")
    with RedisServer(folder) as server:
        yield server


async def listed(url: str, count: int) -> list[Record]:
    store = RedisStore(url)
    await store.open()
    try:
        ids = [uuid.uuid4().hex for _ in range(count)]
        for at in range(0, count, 100):
            writes = (
                store.write(Record(each, 1, 1e12, {"step": 3}, b"state")) for each in ids[at : at + 100]
            )
            await asyncio.gather(*writes)
        found = await store.load()
        assert sorted(record.session_id for record in found) == sorted(ids)
        return found
    finally:
        await store.close()


async def test_all_sessions_are_listed_once_with_few_requests(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 64)
    client = server.client()
    client.flushdb()
    sent: list[int] = []
    original = module.redis.asyncio.client.Pipeline.execute

    async def execute(self: Any, *given: Any, **named: Any) -> Any:
        sent.append(len(self))
        return await original(self, *given, **named)

    monkeypatch.setattr(module.redis.asyncio.client.Pipeline, "execute", execute)
    found = await listed(server.url, 400)
    assert all(record.head == {"step": 3} and record.state is None for record in found)
    assert len(sent) < 40 and sum(sent) >= 400  # pages, and no request for a session


async def test_keys_of_others_and_sessions_that_go_meanwhile_are_passed_over(server: RedisServer) -> None:
    client = server.client()
    client.flushdb()
    client.set("somebody:else", 1)
    client.hset(PREFIX + "0" * 32, "revision", 1)  # half of one: its head has gone
    await listed(server.url, 3)
