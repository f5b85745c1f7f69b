"""What a request needs only while it waits: most are answered without."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


@coroutine
def once_waiting(work: Awaitable[Result], prepare: Callable[[], None]) -> Generator[Any, Any, Result]:
    """The result of ``work``; ``prepare`` is called when it first has to wait, or never.

    For timers: a body is usually here already, a short act is usually answered at once, and a timer that is started and
    cancelled for nothing takes as long as either step does. (``await`` does the same without the first call.)
    """
    steps, waited, given = work.__await__(), False, None
    resume: Callable[[Any], Any] = steps.send
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
            resume, given = steps.send, (yield wanted)
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:
            resume, given = steps.throw, error
