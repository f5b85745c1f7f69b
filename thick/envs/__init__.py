"""Environments under one roof: `make("minigrid:MiniGrid-DoorKey-8x8-v0+map")`, torch-free.

The identifier reads `FAMILY:TASK[+VIEW...]`, or `FILE.py:CLASS` for an environment of one's own. Families are loaded
when asked for, so that a thin client needs none of the simulators. See docs/environments.md for every family, task
and view.
"""

from __future__ import annotations

from thick.envs.errors import MissingPackageError, UnknownEnvironmentError, UnusableEnvironmentError
from thick.envs.registry import (
    Family,
    Spec,
    check,
    check_unasked,
    families,
    make,
    names_code,
    register,
    spec,
)

__all__ = [
    "Family",
    "MissingPackageError",
    "Spec",
    "UnknownEnvironmentError",
    "UnusableEnvironmentError",
    "check",
    "check_unasked",
    "families",
    "make",
    "names_code",
    "register",
    "spec",
]
