"""What a connection writes: one piece for an answer that is there at once, and nothing held back of one that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from service.faces.http.connections import _Joined


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
