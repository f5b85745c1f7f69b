"""What a connection writes: one piece for an answer that is there at once, and nothing held back of one that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest

from service.core import PlanningService
from service.faces.http.connections import _Joined
from tests.service.sockets import over_sockets

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Written:
    """A transport that notes what is written in one piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.pieces.append(b"".join(pieces))

    def close(self) -> None:
        self.closed = True


def joined() -> tuple[_Joined, Written]:
    transport = Written()
    return _Joined(cast(Any, transport), asyncio.get_running_loop()), transport


async def test_a_head_leaves_together_with_what_follows_at_once() -> None:
    connection, transport = joined()
    connection.write(b"head")
    assert transport.pieces == []
    connection.write(b"body")
    assert transport.pieces == [b"headbody"]
    await asyncio.sleep(0)
    assert transport.pieces == [b"headbody"]


async def test_a_head_by_itself_leaves_before_anybody_waits() -> None:
    connection, transport = joined()
    connection.write(b"head")
    await asyncio.sleep(0)
    assert transport.pieces == [b"head"]
    connection.write(b"event")
    await asyncio.sleep(0)
    assert transport.pieces == [b"head", b"event"]


async def test_an_empty_body_and_a_close_leave_nothing_behind() -> None:
    connection, transport = joined()
    connection.write(b"head")
    connection.write(b"")
    assert transport.pieces == [b"head"]
    connection.write(b"head")
    connection.close()
    assert transport.pieces == [b"head", b"head"] and transport.closed
    connection.write(b"")
    await asyncio.sleep(0)
    assert transport.pieces == [b"head", b"head"]


async def test_whoever_asks_first_whether_to_send_a_large_body_is_told_to_go_on(
    service: PlanningService,
) -> None:
    """curl does, for bodies above a megabyte."""
    body = b'{"model": "arm"}'
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    async with over_sockets(service) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
        writer.close()
