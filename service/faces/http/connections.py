"""HTTP connections that end: of clients that take too long to ask, or to take what they asked for.

uvicorn bounds how long a connection may lie idle between requests. Here is the rest: how long the head of a
request may take and how large it may be, and how soon a peer is dropped that vanished without a word or
does not read its answer. The time that a body may take is bounded where it is read (``service.faces.http.bodies``).
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.protocol import media
from service.protocol.errors import TYPE_PREFIX

MAX_HEAD_BYTES = 64 * 1024
"""the largest request line and headers together"""
MAX_SHOWN = 1000
"""characters of a path that an answer repeats"""
PROBE_IDLE_S = 30
"""a connection on which nothing came for that long is asked whether its other end still lives"""
PROBE_EVERY_S = 10
PROBES = 3
"""unanswered, after which the connection is dropped"""

_REASONS = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}


def drop_silent_peers(listener: socket.socket, unread_s: float) -> None:
    """Let the kernel end connections of this listener whose peer is gone, or takes nothing of its answer.

    Args:
        listener: its connections inherit what is set here.
        unread_s: seconds for which data may lie unacknowledged, or the peer's window closed.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", PROBE_IDLE_S),
        ("TCP_KEEPINTVL", PROBE_EVERY_S),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", round(1e3 * unread_s)),
    ):
        option = getattr(socket, name, None)
        if option is not None:  # not every system has each of them
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


def connection_type(head_s: float) -> type[HttpConnection]:
    """What uvicorn makes for each connection; the head of a request must arrive in ``head_s`` seconds."""
    return type("HttpConnection", (HttpConnection,), {"head_s": head_s})


class _Joined:
    """A connection's transport as its requests see it: the head of an answer leaves together with what follows at once.

    uvicorn writes the two one after the other. Each write is a system call that wakes the client, the first one for
    half an answer; on one machine it takes as long as the rest of HTTP.
    """

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send, at the latest before the event loop waits again."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data) if data else (held,))
        elif data:
            self._held = data
            self._loop.call_soon(self._flush)

    def is_closing(self) -> bool:
        """Whether the connection is about to end; uvicorn asks before it says ``100 Continue``."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._held:
            self.write(b"")

    def close(self) -> None:
        """Close, once everything is sent."""
        self._flush()
        self._transport.close()


class HttpConnection(HttpToolsProtocol):
    """One client's connection; it ends when a request does not begin as it should."""

    head_s = 10.0
    """seconds in which the head of a request must arrive, from the connection or from its first byte on"""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_begun = False
        """a head is on its way; it gets a timer where it does not come in one piece"""
        self._head_bytes = 0
        self._upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._joined = _Joined(transport, self.loop)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._upgraded:
            return
        if self._head_timer is None:
            if self._head_begun or (self._answered and self.timeout_keep_alive_task is None):
                self._await_head()  # or bytes that begin no request, such as empty lines
        elif self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, f"the request line and the headers have at most {MAX_HEAD_BYTES} bytes here")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_begun = True

    def on_headers_complete(self) -> None:
        self._head_begun = False
        self._stop_timer()
        super().on_headers_complete()
        if self.cycle is not None:  # None on the way to a WebSocket
            self.cycle.transport = self._joined  # type: ignore[assignment]

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._drain_body()

    def on_message_complete(self) -> None:
        if self.cycle is not None and self.cycle.response_complete:  # none on the way to a WebSocket
            self._stop_timer()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._upgraded = True
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._refuse(
            400,
            "what was sent is no HTTP/1.1 request, or its method is none that HTTP knows; "
            "this service answers GET, HEAD, POST and DELETE",
        )

    @property
    def _answered(self) -> bool:
        """Whether no request is running."""
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._stop_timer()
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_s, self._head_is_late)

    def _drain_body(self) -> None:
        """The request was answered before all of it was here; the rest may take as long as a head may."""
        self._stop_timer()
        self._head_timer = self.loop.call_later(self.head_s, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if not self._answered:  # the next request may take its time while this one runs
            self._await_head()
        elif self._head_bytes:
            self._refuse(408, f"the head of the request did not arrive within {self.head_s:g} s")
        else:
            self.transport.close()  # nothing was asked, so nothing is answered

    def _path(self) -> str:
        """What was asked for, as far as it is known."""
        url: bytes = getattr(self, "url", b"")
        return url.partition(b"?")[0][:MAX_SHOWN].decode("ascii", "replace")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer what never became a request, and close the connection."""
        self._stop_timer()
        problem = {
            "type": f"{TYPE_PREFIX}malformed_request",
            "title": "The request cannot be read",
            "status": status,
            "detail": detail,
            "code": "malformed_request",
            "instance": self._path(),
        }
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {media.PROBLEM_JSON}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
