"""A bad network between two programs: answers that are lost, or come late."""

from __future__ import annotations

import socket
import threading
import time

from tests.clients.proxy import LossyProxy


class BadNetwork(LossyProxy):
    """``lose_answers(n)`` as in ``LossyProxy``; besides, while ``delay_s`` is set, answers come that late. The
    server behind it may come and go."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.delay_s = 0.0
        self.delayed = 0
        """pieces of answers that came late so far"""
        self.parted: str | None = None
        """``closed``: nobody gets through; ``silent``: connections stand, and nothing arrives"""
        self._counting = threading.Lock()
        self._to_pass = 0

    def lose_answers(self, count: int, *, after: int = 0) -> None:
        """The next ``count`` pieces of answer do not arrive, once ``after`` more have."""
        self._to_pass = after
        super().lose_answers(count)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self.parted == "closed":
                near.close()
                continue
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()  # nobody listens there at the moment
                continue
            with self._lock:
                self._open |= {near, far}
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def part(self, how: str) -> None:
        """Nothing gets through any more, see :attr:`parted`."""
        self.parted = how
        if how == "closed":
            self.cut()

    def join(self) -> None:
        """Everything gets through again; connections that stood silent are broken."""
        self.parted = None
        self.cut()

    def _arrives(self) -> bool:
        return self.parted != "silent"

    def recover(self) -> None:
        """Answers come at once again."""
        self.delay_s = 0.0

    def _loses(self) -> bool:
        if self.delay_s:
            with self._counting:
                self.delayed += 1
            time.sleep(self.delay_s)
        with self._counting:
            if self._to_pass:
                self._to_pass -= 1
                return False
        return super()._loses()


__all__ = ["BadNetwork"]
