"""Environments under one roof: `make("minigrid:MiniGrid-DoorKey-8x8-v0+map")`, torch-free.

The identifier reads `FAMILY:TASK[+VIEW...]`. Families are loaded when asked for, so that a thin
client needs none of the simulators. See docs/environments.md for every family, task and view.
"""

from __future__ import annotations

from thick.envs.registry import (
    Family,
    MissingPackageError,
    Spec,
    UnknownEnvironmentError,
    families,
    make,
    register,
    spec,
)

__all__ = [
    "Family",
    "MissingPackageError",
    "Spec",
    "UnknownEnvironmentError",
    "families",
    "make",
    "register",
    "spec",
]
