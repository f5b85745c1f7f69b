"""Types of numbers on command lines, which refuse in words what a command cannot do."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that takes whole numbers from ``least``, for :mod:`argparse`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"expected a whole number, got {text!r}") from None
        if value < least:
            raise ArgumentTypeError(f"expected at least {least}, got {text}")
        return value

    return read


def above(bound: float, *, or_equal: bool = False) -> Callable[[str], float]:
    """The type of a flag that takes finite numbers above ``bound``, or from it."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ArgumentTypeError(f"expected a number, got {text!r}") from None
        if not (bound < value < float("inf") or (or_equal and value == bound)):
            raise ArgumentTypeError(
                f"expected a number {'of at least' if or_equal else 'above'} {bound:g}, got {text}"
            )
        return value

    return read
