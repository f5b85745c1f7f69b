"""Command lines: types of flags, numbers and places to write, which refuse in words what a command cannot do, before it
begins; and a parser that knows which flag was meant."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thick.nearest import did_you_mean


class Parser(ArgumentParser):
    """Refuses a flag that is none before anything else, and names the nearest one: what it hides is often a flag that
    is then said to be missing."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See :meth:`argparse.ArgumentParser.parse_args`."""
        for word in sys.argv[1:] if args is None else args:
            name = word.partition("=")[0]
            if word == "--":
                break
            # What holds a space is a value for argparse, too.
            if name.startswith("--") and " " not in word and not self._begins_a_flag(name):
                self.error(f"unrecognized arguments: {name}{did_you_mean(name, self._option_string_actions)}")
        return super().parse_args(args, namespace)

    def _begins_a_flag(self, name: str) -> bool:
        return any(flag.startswith(name) for flag in self._option_string_actions)


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


def folder_to_write(text: str) -> Path:
    """The type of a flag that names a folder to write into: one that is there, or that can be made."""
    path = _path(text)
    _check_folder(path)
    return path


def file_to_write(*endings: str) -> Callable[[str], Path]:
    """The type of a flag that names a file to write; ``endings`` are those that its name may have, any without one."""

    def read(text: str) -> Path:
        path = _path(text)
        if endings and path.suffix.lower() not in endings:
            *some, last = endings
            expected = f"{', '.join(some)} or {last}" if some else last
            raise ArgumentTypeError(f"expected a name ending in {expected}, got {text}")
        if os.path.isdir(path):
            raise ArgumentTypeError(f"{text} is a folder: name a file in it")
        _check_folder(path.parent)
        return path

    return read


def _path(text: str) -> Path:
    if not text.strip():
        raise ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


def _check_folder(path: Path) -> None:
    """Whether a folder is there to be written into, or can be made."""
    try:
        for each in (path, *path.parents):
            if each.is_dir():
                if not os.access(each, os.W_OK | os.X_OK):
                    raise ArgumentTypeError(f"{each} cannot be written")
                return
            if os.path.lexists(each):
                what = "a link to what is not there" if each.is_symlink() else "no folder"
                raise ArgumentTypeError(f"{each} is {what}: name another place")
    except OSError as error:
        raise ArgumentTypeError(f"{path} cannot be used: {error.strerror}") from error
