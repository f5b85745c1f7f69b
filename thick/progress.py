"""Long work says how far it is: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINES_EVERY_S = 10.0
"""seconds between two lines where there is no terminal"""


class Screen:
    """One place for all bars of a process; lines for people go above them.

    Where stderr is no terminal there are no bars, and each :class:`Task` writes lines instead.
    """

    def __init__(self) -> None:
        self.bars: Progress | None = None
        if sys.stderr.isatty():
            self.bars = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self.bars.start()

    def task(self, name: str, total: int, *, done: int = 0) -> Task:
        """Work of ``total`` steps; use it as a context."""
        return Task(self, name, total, done)

    def say(self, text: str) -> None:
        """A line for people."""
        if self.bars is not None:
            self.bars.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bars as they are."""
        if self.bars is not None:
            self.bars.stop()

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Task:
    """Something that takes long; made by :meth:`Screen.task`."""

    def __init__(self, screen: Screen, name: str, total: int, done: int) -> None:
        self._screen, self._name, self._total = screen, name, total
        self._bar: TaskID | None = None
        self._said = time.monotonic()
        if screen.bars is not None:
            self._bar = screen.bars.add_task(name, total=total, completed=done, note="")

    def __call__(self, done: int, note: str = "") -> None:
        """So much is done."""
        if self._bar is not None and self._screen.bars is not None:
            self._screen.bars.update(self._bar, completed=done, note=note)
        elif time.monotonic() - self._said >= LINES_EVERY_S:
            self._said = time.monotonic()
            self._screen.say(f"{self._name}: {done} of {self._total} {note}".rstrip())

    def __enter__(self) -> Task:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Its bar goes; bars that stay (training) are not used as a context."""
        if self._bar is not None and self._screen.bars is not None:
            self._screen.bars.remove_task(self._bar)
