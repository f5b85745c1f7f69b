"""What the C library keeps of memory that nobody uses: as little as it can be asked for (glibc; elsewhere nothing)."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

ARENAS = 2
"""heaps that threads share; glibc's default is eight a core, and what is free in one is no use to another"""
_M_ARENA_MAX = -8


@cache
def _library() -> Any:
    """The C library, or None where it cannot be asked."""
    try:
        library = ctypes.CDLL(None)
        library.malloc_trim.argtypes = [ctypes.c_size_t]
        library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    except (OSError, AttributeError, TypeError):
        return None
    return library


def share_heaps() -> None:
    """Few heaps for the threads to come; called before there are any."""
    if (library := _library()) is not None:
        library.mallopt(_M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Free memory goes back to the system: after a model was read, its tensors are no longer needed."""
    if (library := _library()) is not None:
        library.malloc_trim(0)
