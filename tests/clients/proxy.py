"""A TCP proxy that loses things: what a bad network does between client and server."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit


class LossyProxy:
    """Forwards connections to a server; ``lose_answers(n)`` swallows the next n answers and cuts their connections.

    Use it as a context manager. ``url`` is where clients connect.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{parts.scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._to_lose = 0
        self.lost = 0
        """answers swallowed so far"""
        self._open: set[socket.socket] = set()

    def __enter__(self) -> LossyProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def lose_answers(self, count: int) -> None:
        """The next ``count`` pieces of answer do not arrive."""
        with self._lock:
            self._to_lose = count

    def cut(self) -> None:
        """Breaks all connections."""
        with self._lock:
            sockets, self._open = self._open, set()
        for each in sockets:
            _close(each)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return  # closed
            with self._lock:
                self._open |= {near, far}
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        while True:
            try:
                data = source.recv(1 << 16)
                if data and answers and self._loses():
                    break
                if not data:
                    break
                if self._arrives():
                    sink.sendall(data)
            except OSError:
                break
        _close(source)
        _close(sink)

    def _arrives(self) -> bool:
        """Whether a piece is passed on."""
        return True

    def _loses(self) -> bool:
        with self._lock:
            if self._to_lose == 0:
                return False
            self._to_lose -= 1
            self.lost += 1
            return True


def _close(each: socket.socket) -> None:
    try:
        each.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster
    finally:
        each.close()
