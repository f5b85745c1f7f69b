"""Sessions in Redis, for several replicas: each write says which revision it follows, so that none is
lost."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from service.stores.record import REMEMBER_EXPIRED_S, Record, RevisionConflict, StoreError, read_record

PREFIX = "thick:session:"
PAGE = 500
"""keys that are looked at in one request, and sessions that are read in one"""

# A replica may write revision n only over n-1 (or over nothing, for a new session): compare and set in one
# step. A write whose answer was lost is sent again, and must not take itself for somebody else's.
_WRITE = """
local current, writer = unpack(redis.call('HMGET', KEYS[1], 'revision', 'writer'))
if current == ARGV[1] and writer == ARGV[7] then return 1 end
if current and tonumber(current) ~= tonumber(ARGV[1]) - 1 then return {err = 'REVISION ' .. current} end
if not current and tonumber(ARGV[1]) ~= 1 then return {err = 'REVISION none'} end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'expires_at', ARGV[2], 'head', ARGV[3],
           'state', ARGV[4], 'answer', ARGV[5], 'writer', ARGV[7])
redis.call('PEXPIREAT', KEYS[1], ARGV[6])
return 1
"""

Result = TypeVar("Result")


class RedisStore:
    """See ``service.stores.record.SessionStore``."""

    shared = True
    durable = True

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None
        self._write: Any = None

    async def open(self) -> None:
        try:
            self._client = redis.asyncio.Redis.from_url(
                self._url,
                socket_timeout=2.0,
                socket_connect_timeout=2.0,
                retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 1),
                health_check_interval=15,
            )
        except ValueError as error:
            raise StoreError(f"not a Redis address: {error}") from error
        self._write = self._client.register_script(_WRITE)
        await self._try(self._client.ping)

    async def load(self) -> list[Record]:
        async def scan() -> list[Record]:
            found: dict[str, Record] = {}  # a scan may come by a key twice
            cursor: int | None = None
            while cursor != 0:
                cursor, keys = await self._client.scan(cursor or 0, match=PREFIX + "*", count=PAGE)
                asked = self._client.pipeline(transaction=False)
                for key in keys:
                    asked.hmget(key, "revision", "expires_at", "head")
                for key, (revision, expires_at, head) in zip(keys, await asked.execute(), strict=True):
                    if head is None:  # it has gone since the scan saw it
                        continue
                    session_id = key.decode().removeprefix(PREFIX)
                    record = read_record(session_id, int(revision), float(expires_at), head, whole=False)
                    if record is not None:
                        found[session_id] = record
            return list(found.values())

        return await self._try(scan)

    async def read(self, session_id: str) -> Record | None:
        fields = await self._try(lambda: self._client.hgetall(PREFIX + session_id))
        if not fields:
            return None
        return read_record(
            session_id,
            int(fields[b"revision"]),
            float(fields[b"expires_at"]),
            fields[b"head"],
            fields[b"state"] or None,
            fields[b"answer"] or None,
            whole=True,
        )

    async def revision(self, session_id: str) -> int | None:
        found = await self._try(lambda: self._client.hget(PREFIX + session_id, "revision"))
        return None if found is None else int(found)

    async def write(self, record: Record) -> None:
        forget_at = int(1e3 * (record.expires_at + REMEMBER_EXPIRED_S))
        arguments = [
            record.revision,
            repr(record.expires_at),
            record.packed_head,
            record.state or b"",
            record.answer or b"",
            forget_at,
            secrets.token_hex(8),
        ]
        try:
            await self._write(keys=[PREFIX + record.session_id], args=arguments)
        except redis.exceptions.ResponseError as error:
            if "REVISION" in str(error):
                raise RevisionConflict(record.session_id) from error
            raise StoreError(f"Redis: {error}") from error
        except (RedisError, OSError) as error:
            raise StoreError(f"Redis does not answer: {error}") from error

    def write_now(self, record: Record) -> bool:
        return False

    async def delete(self, session_id: str) -> None:
        await self._try(lambda: self._client.delete(PREFIX + session_id))

    async def sweep(self, now: float) -> None:
        """Nothing to do: every key carries the time at which Redis forgets it."""

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _try(self, call: Callable[[], Awaitable[Result]]) -> Result:
        began = time.monotonic()
        try:
            return await call()
        except (RedisError, OSError) as error:
            took = time.monotonic() - began
            raise StoreError(f"Redis does not answer ({took:.1f} s): {error}") from error
