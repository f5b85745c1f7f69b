"""Numbers that are none: environments that answer with NaN or infinity are named when they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class NotFiniteError(ArithmeticError):
    """Something that must be a number is NaN or infinite; the message says what, where and since when."""


def not_finite(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which rows hold a number that is none: ``[N]`` bool for each array ``[N, ...]`` that has such rows."""
    found = {}
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            found[name] = ~np.isfinite(array).reshape(len(array), -1).all(-1)
    return found


def check_answer(arrays: Mapping[str, np.ndarray], row: int, *, where: str) -> None:
    """Refuse an environment's answer in row ``row`` of ``arrays`` if it is not finite.

    Raises:
        NotFiniteError: names the entry, its value, and ``where`` it happened.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array[row]).all():
            raise NotFiniteError(
                f"{where}: {described(name)} is not finite ({_value(array[row])}); the environment must answer with "
                "finite numbers"
            )


def described(name: str) -> str:
    """A field of a step in words."""
    kind, _, entry = name.partition("/")
    return f"the {kind}" + (f" {entry!r}" if entry and entry != kind else "")


def _value(array: Any) -> str:
    flat = np.asarray(array).ravel()
    bad = np.flatnonzero(~np.isfinite(flat))
    return str(flat[bad[0]]) + (f" in {len(bad)} of {len(flat)} numbers" if len(flat) > 1 else "")
