"""Packages of simulators: imported when an environment needs them."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from thick.distribution import install_command
from thick.envs.errors import MissingPackageError


def require(package: str, *, extra: str = "envs") -> Any:
    """Imports a simulator's package, or says how to install it."""
    try:
        return import_quietly(package)
    except ImportError as error:
        raise MissingPackageError(
            f"{package} is needed for these environments and could not be imported ({error}): "
            f"{install_command(extra)}"
        ) from error


def import_quietly(module: str) -> Any:
    """Imports a module without what it warns of meanwhile, which is for its authors: our words are one line."""
    with warnings.catch_warnings(action="ignore"):
        return importlib.import_module(module)
