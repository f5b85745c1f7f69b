"""Large bodies are read off the event loop, so that other requests are answered meanwhile.

One thread for all of them: they wait for each other, not everybody for them. Python gives the interpreter to
the event loop every few milliseconds, and what it cannot interrupt is bounded (``Limits.values`` and its
like).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

LARGE = 128 * 1024
"""bytes; reading less takes less time than anybody notices"""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_reader = ThreadPoolExecutor(1, "large-bodies")


async def off_loop(
    work: Callable[Arguments, Result], *args: Arguments.args, **options: Arguments.kwargs
) -> Result:
    """The result of ``work``, done in the thread for large bodies."""
    return await asyncio.get_running_loop().run_in_executor(_reader, lambda: work(*args, **options))
