"""Connections of the load generator: as little as HTTP/1.1 and gRPC over HTTP/2 need, one request at a time.

A client library would cost as much as the server it measures (two cores are shared by both). These read and
write bytes that were prepared beforehand: 20 to 40 µs a request.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Protocol

Answered = Callable[[bytes | None], None]
"""gets the body of an answer, or None where it was an error"""


class Connection(Protocol):
    """Carries one request at a time."""

    failure: str
    """why the last answer was an error"""
    closed: bool
    """whether the server ended it (idle ones after some seconds)"""

    def ask(self, body: bytes, answered: Answered) -> None:
        """Send a request; ``answered`` is called once."""

    def close(self) -> None:
        """Let go of the socket."""


class HttpConnection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive.

    Args:
        head: request line and headers up to ``content-length: ``.
    """

    def __init__(self, head: bytes) -> None:
        self.failure = ""
        self.closed = False
        self._head = head
        self._answered: Answered | None = None
        self._received = b""
        self._end = 0
        self._ok = False
        self._transport: Any = None

    @classmethod
    async def open(cls, port: int, path: str, headers: dict[str, str]) -> HttpConnection:
        """Connect to this machine."""
        lines = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\ncontent-length: ").encode()
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: cls(head), "127.0.0.1", port)
        return protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, body: bytes, answered: Answered) -> None:
        self._answered, self._received, self._end = answered, b"", 0
        self._transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        if not self._end:
            start = received.find(b"\r\n\r\n")
            if start < 0:
                return
            head = received[:start].lower()
            at = head.find(b"content-length:")
            if at < 0:
                self._finish(None, f"no content-length in {received[:80]!r}")
                return
            line = head.find(b"\r\n", at)
            self._end = start + 4 + int(head[at + 15 : None if line < 0 else line])
            self._start = start + 4
            self._ok = head.startswith(b"http/1.1 2")
        if len(received) >= self._end:
            body = received[self._start : self._end]
            self._finish(body if self._ok else None, f"{received[:15]!r} {body[:300]!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._finish(None, f"connection lost: {exc}")

    def _finish(self, body: bytes | None, failure: str) -> None:
        answered, self._answered = self._answered, None
        if body is None:
            self.failure = failure
        if answered is not None:
            answered(body)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
LARGE = 1 << 30
MAX_FRAME = 16_384


class GrpcConnection(asyncio.Protocol):
    """gRPC over HTTP/2 without TLS: calls one after the other, or all messages on one stream.

    Args:
        port: of the server.
        path: ``/package.Service/Method``.
        stream: one bidirectional call for all requests, instead of a call for each.
    """

    def __init__(self, port: int, path: str, *, stream: bool) -> None:
        self.failure = ""
        self.closed = False
        self._stream_all = stream
        self._headers = _literal_headers(
            {
                ":method": "POST",
                ":scheme": "http",
                ":path": path,
                ":authority": f"127.0.0.1:{port}",
                "content-type": "application/grpc",
                "te": "trailers",
            }
        )
        self._answered: Answered | None = None
        self._buffer = b""
        self._message = b""
        self._stream = -1
        self._credit = 65_535  # of the connection
        self._first_credit = 65_535  # of each new stream
        self._stream_credit = 0
        self._unsent = b""
        self._transport: Any = None

    @classmethod
    async def open(cls, port: int, path: str, *, stream: bool) -> GrpcConnection:
        """Connect to this machine."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: cls(port, path, stream=stream), "127.0.0.1", port)
        return protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        settings = struct.pack(">HIHI", 2, 0, 4, LARGE)  # no push, large windows
        transport.write(PREFACE + _frame(SETTINGS, 0, 0, settings) + _frame(WINDOW, 0, 0, _u32(LARGE)))

    def ask(self, body: bytes, answered: Answered) -> None:
        self._answered, self._message = answered, b""
        head = b""
        if self._stream < 0 or not self._stream_all:
            self._stream = 1 if self._stream < 0 else self._stream + 2
            self._stream_credit = self._first_credit
            head = _frame(HEADERS, END_HEADERS, self._stream, self._headers)
        self._unsent = b"\0" + _u32(len(body)) + body
        self._send(head)

    def close(self) -> None:
        self._transport.close()

    def _send(self, head: bytes = b"") -> None:
        """Whatever of the message the server has room for."""
        parts = [head]
        while self._unsent:
            size = min(len(self._unsent), MAX_FRAME, self._credit, self._stream_credit)
            if size <= 0:
                break
            piece, self._unsent = self._unsent[:size], self._unsent[size:]
            self._credit -= size
            self._stream_credit -= size
            last = END_STREAM if not self._unsent and not self._stream_all else 0
            parts.append(_frame(DATA, last, self._stream, piece))
        self._transport.write(b"".join(parts))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at = 0
        while len(buffer) - at >= 9:
            size = int.from_bytes(buffer[at : at + 3], "big")
            if len(buffer) - at < 9 + size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & 0x7FFFFFFF
            self._frame(kind, flags, stream, buffer[at + 9 : at + 9 + size])
            at += 9 + size
        self._buffer = buffer[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._finish(None, f"connection lost: {exc}")

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._message += payload
            if self._stream_all and self._complete():
                self._finish(self._message[5:], "")
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == 4:
                    self._stream_credit += value - self._first_credit
                    self._first_credit = value
            self._transport.write(_frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, ACK, 0, payload))
        elif kind == WINDOW:
            more = int.from_bytes(payload, "big")
            if stream == 0:
                self._credit += more
            elif stream == self._stream:
                self._stream_credit += more
            if self._unsent:
                self._send()
        elif kind in (RST, GOAWAY):
            self._finish(None, f"the server ended the call: {payload[:200]!r}")
        if kind in (DATA, HEADERS) and flags & END_STREAM and stream == self._stream:
            whole = self._complete() and not self._stream_all
            self._finish(self._message[5:] if whole else None, f"status {payload[:300]!r}")

    def _complete(self) -> bool:
        message = self._message
        return len(message) >= 5 and len(message) >= 5 + int.from_bytes(message[1:5], "big")

    def _finish(self, body: bytes | None, failure: str) -> None:
        answered, self._answered = self._answered, None
        if body is None:
            self.failure = failure
        if answered is not None:
            answered(body)


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + _u32(stream) + payload


def _literal_headers(headers: dict[str, str]) -> bytes:
    """A header block (HPACK) that refers to no table, so that it can be sent again and again."""
    block = b""
    for name, value in headers.items():
        block += b"\0"
        for text in (name.encode(), value.encode()):
            if len(text) > 126:
                raise ValueError(f"{name}: a header of the load generator has at most 126 bytes")
            block += bytes((len(text),)) + text
    return block
