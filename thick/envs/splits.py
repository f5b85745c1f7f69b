"""Layouts for training and layouts for tests, separated by a hash of what is drawn.

A split by seeds says little: different seeds often draw the same rooms. A layout is what a reset draws without the
agent: walls, doors, keys, goals. It belongs to "test" or to "train" whatever the seed, the version and the machine.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np

from thick.envs.errors import UnusableEnvironmentError

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
TEST_SHARE = 0.2
TRIES = 1000
"""resets in search of a layout of the split"""


def layout_hash(grid: np.ndarray[Any, Any]) -> str:
    """16 hexadecimal digits of a layout, an array of whole numbers."""
    cells = np.ascontiguousarray(grid, np.uint8)
    content = repr(cells.shape).encode() + cells.tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def split_of(layout: str) -> Split:
    """The split of a layout's hash."""
    return "test" if int(layout, 16) < TEST_SHARE * 16**16 else "train"


def check_split(split: object) -> None:
    """Raises UnusableEnvironmentError for anything but a split or None."""
    if split is not None and split not in SPLITS:
        raise UnusableEnvironmentError(f"split: expected train or test, got {split!r}")
