"""Every environment that is registered with gymnasium: `gym:CartPole-v1`, `gym:package.module:Id-v0`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from thick.envs.errors import MissingPackageError, UnknownEnvironmentError, UnusableEnvironmentError, reason
from thick.envs.factories import find_here
from thick.envs.packages import require
from thick.envs.registry import Family, Spec
from thick.nearest import did_you_mean

gymnasium = require("gymnasium")


def check(task: str) -> None:
    """Raises UnknownEnvironmentError where nothing is registered under that name; imports the module before `:`."""
    module, colon, name = task.rpartition(":")
    if colon:
        find_here()
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingPackageError(f"gym:{task}: {module} cannot be imported ({error})") from error
        except (Exception, SystemExit) as error:
            raise UnusableEnvironmentError(
                f"gym:{task}: {module} cannot be imported: {reason(error)}"
            ) from error
    try:
        gymnasium.spec(name)
    except gymnasium.error.Error as error:
        known = list(gymnasium.registry)
        raise UnknownEnvironmentError(
            f"'gym:{task}': nothing is registered as {name!r}{did_you_mean(name, known, prefix='gym:')}"
            + ("" if colon else " (of a package that registers its own: gym:PACKAGE:NAME)")
        ) from error


def _tasks() -> Sequence[str]:
    return tuple(sorted(gymnasium.registry))


def _build(spec: Spec, *, render_mode: str | None = None, **options: Any) -> Any:
    if isinstance(options.get("vectorization_mode"), str) or "num_envs" in options:
        raise UnusableEnvironmentError(f"{spec}: environments side by side are made here; leave num_envs out")
    if render_mode is not None:  # many environments take none
        options["render_mode"] = render_mode
    try:
        return gymnasium.make(spec.task, disable_env_checker=True, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingPackageError(f"{spec} needs a package that is not installed: {error}") from error
    except ImportError as error:
        raise MissingPackageError(f"{spec} needs a package that cannot be imported: {error}") from error
    except Exception as error:
        raise UnusableEnvironmentError(f"{spec} could not be made: {reason(error)}") from error


VIEWS = {"notext": "without the entries that are text"}
FAMILY = Family(
    "gym", "any environment registered with gymnasium", VIEWS, _tasks, _build, check=check, foreign=True
)
