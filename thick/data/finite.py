"""Numbers that nothing can be learned from: environments that answer with NaN or infinity are named when they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from thick.envs.trial import LARGEST


class NotFiniteError(ArithmeticError):
    """Something that must be a number is NaN or infinite; the message says what, where and since when."""


def not_finite(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which rows hold a number that is none: ``[N]`` bool for each array ``[N, ...]`` that has such rows."""
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if _may_fail(array) and not (fine := _fine(array)).all():
            found[name] = np.asarray(~fine.reshape(len(array), -1).all(-1))
    return found


def check_answer(arrays: Mapping[str, np.ndarray], row: int, *, where: str) -> None:
    """Refuse an environment's answer in row ``row`` of ``arrays`` if it is not finite.

    Raises:
        NotFiniteError: names the entry, its value, and ``where`` it happened.
    """
    for name, array in arrays.items():
        if _may_fail(array) and not _fine(array[row]).all():
            if np.isfinite(array[row]).all():
                raise NotFiniteError(
                    f"{where}: {described(name)} is too large to learn from ({_value(array[row])}); the environment "
                    f"must answer with numbers of at most {LARGEST:g}: scale them down"
                )
            raise NotFiniteError(
                f"{where}: {described(name)} is not finite ({_value(array[row])}); the environment must answer with "
                "finite numbers"
            )


def _may_fail(array: np.ndarray) -> bool:
    """Whether an array's type can hold what cannot be learned from."""
    return array.dtype.kind == "f" or (array.dtype.kind in "iu" and array.dtype.itemsize == 8)


def _fine(array: np.ndarray) -> np.ndarray:
    """Which numbers can be learned from, bool."""
    with np.errstate(invalid="ignore"):
        size = np.abs(array.astype(np.float64) if array.dtype.kind in "iu" else array)
        fine: np.ndarray = size <= min(LARGEST, float(np.finfo(size.dtype).max))
    return fine


def described(name: str) -> str:
    """A field of a step in words."""
    kind, _, entry = name.partition("/")
    return f"the {kind}" + (f" {entry!r}" if entry and entry != kind else "")


def _value(array: Any) -> str:
    flat = np.asarray(array).ravel()
    bad = np.flatnonzero(~_fine(flat))
    return str(flat[bad[0]]) + (f" in {len(bad)} of {len(flat)} numbers" if len(flat) > 1 else "")
