"""The right name that is nearest to a wrong one: what every message with "did you mean" asks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_COMPARED = 60
"""characters of a wrong name that are compared with the right ones"""


def nearest(wrong: str, right: Iterable[str]) -> str | None:
    """The name of ``right`` nearest to ``wrong``, whatever the case of its letters; None where none is near."""
    lowered = {name.lower(): name for name in right}
    close = difflib.get_close_matches(wrong[:MAX_COMPARED].lower(), list(lowered), n=1, cutoff=0.5)
    return lowered[close[0]] if close else None


def did_you_mean(wrong: str, right: Iterable[str], *, prefix: str = "") -> str:
    """``"; did you mean 'x'?"``, or nothing where no name is near; ``prefix`` goes before the name."""
    name = nearest(wrong, right)
    return "" if name is None else f"; did you mean {prefix + name!r}?"
