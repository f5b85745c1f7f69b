"""What can be wrong with an environment; every message is one line that says what to do."""

from __future__ import annotations

import traceback
from pathlib import Path

HERE = Path(__file__).parent


class UnknownEnvironmentError(ValueError):
    """The identifier names no environment; the message names the nearest known one."""


class UnusableEnvironmentError(ValueError):
    """There is such an environment, but nothing here can act in it or learn from it as it is."""


class MissingPackageError(ImportError):
    """A simulator is not installed; the message says how to install it."""


def reason(error: BaseException) -> str:
    """An exception of somebody else's code in one line, with the place where it was raised."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    said = " ".join(str(error).split())[:300]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and Path(frame.filename).parent != HERE
    ]
    place = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if said else ''}{said}{place}"
