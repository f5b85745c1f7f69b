"""Being asked to stop: the first signal ends the run where nothing is lost, the second ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""SIGHUP comes where a terminal is closed"""


class Interrupted(Exception):
    """Work that may be left half done was left, since somebody asked to stop."""


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.requested = False

    def request(self) -> None:
        """Ask to stop at the next moment at which nothing is lost."""
        self.requested = True

    def check(self) -> None:
        """To be called in work that may be left half done.

        Raises:
            Interrupted: somebody asked to stop.
        """
        if self.requested:
            raise Interrupted


@contextlib.contextmanager
def on_signals(stop: StopRequest, announcement: str) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP ask to stop and say so; a second one raises KeyboardInterrupt wherever the program is.

    A SIGHUP that is ignored, as under ``nohup``, stays ignored. Outside the main thread Python has no signals, and
    nothing is changed.

    Args:
        stop: what the first signal asks.
        announcement: what it says.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for each in taken:
                if each != signal.SIGINT:
                    signal.signal(each, signal.SIG_DFL)
            raise KeyboardInterrupt
        stop.request()
        # Not print: the signal may have come in the middle of one.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{announcement}\n".encode())

    taken = [each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN or each == signal.SIGINT]
    before: dict[int, Any] = {number: signal.signal(number, handle) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
