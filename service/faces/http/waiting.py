"""What a request needs only while it waits: most are answered without."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


@coroutine
def once_waiting(
    work: Coroutine[Any, Any, Result], prepare: Callable[[], None]
) -> Generator[Any, Any, Result]:
    """The result of ``work``; ``prepare`` is called when it first has to wait, or never.

    For timers: a body is usually here already, a short act is usually answered at once, and a timer that is started and
    cancelled for nothing takes as long as either step does. (``await`` does the same without the first call.)
    """
    waited, resume, given = False, work.send, None
    while True:
        try:
            wanted = resume(given)
        except StopIteration as done:
            result: Result = done.value
            return result
        if not waited:
            waited = True
            prepare()
        try:
            resume, given = work.send, (yield wanted)
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:
            resume, given = work.throw, error
