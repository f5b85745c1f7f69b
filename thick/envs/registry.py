"""The registry: identifiers, families, and the one function that makes environments.

A family is one module with a `FAMILY: Family`. To add one, write `thick/envs/NAME.py` and add its
line to `_MODULES`; code outside this package calls `register` instead.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thick.distribution import install_command

if TYPE_CHECKING:
    import gymnasium

_MODULES: dict[str, str] = {
    "minigrid": "thick.envs.minigrid",
    "dm_control": "thick.envs.dm_control",
    "pinpad": "thick.envs.pinpad",
}


class UnknownEnvironmentError(ValueError):
    """The identifier names no environment; the message names the nearest known one."""


class MissingPackageError(ImportError):
    """A simulator is not installed; the message says how to install it."""


@dataclass(frozen=True)
class Spec:
    """A parsed identifier: `family:task+view+view`."""

    family: str
    task: str
    views: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The identifier this was parsed from, e.g. `minigrid:MiniGrid-DoorKey-8x8-v0+map`."""
        return f"{self.family}:{'+'.join((self.task, *self.views))}"

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Family:
    """One family of environments: what it holds and how one is built."""

    name: str
    """the part of the identifier before the colon"""
    summary: str
    """one line for listings"""
    views: Mapping[str, str]
    """suffix -> what it shows; the first letter-for-letter match wins, several may be combined"""
    tasks: Callable[[], Sequence[str]]
    """all known task names; raises MissingPackageError where the simulator is not installed"""
    build: Callable[..., gymnasium.Env[Any, Any]]
    """build(spec, *, render_mode, **options) -> environment"""


def register(name: str, module: str) -> None:
    """Adds a family: `module` is imported on first use and holds `FAMILY: Family`."""
    if name in _MODULES and _MODULES[name] != module:
        raise ValueError(f"environment family {name!r} is already provided by {_MODULES[name]}")
    _MODULES[name] = module


def families() -> tuple[str, ...]:
    """Names of all families, installed or not."""
    return tuple(_MODULES)


def family(name: str) -> Family:
    """The family of that name; raises UnknownEnvironmentError naming the nearest one."""
    if name not in _MODULES:
        raise UnknownEnvironmentError(
            f"unknown environment family {name!r}{nearest(name, _MODULES)}; known: {', '.join(_MODULES)}"
        )
    loaded = importlib.import_module(_MODULES[name]).FAMILY
    if not isinstance(loaded, Family):
        raise TypeError(f"{_MODULES[name]}.FAMILY: expected a thick.envs.Family, got {type(loaded).__name__}")
    return loaded


def spec(env_id: str) -> Spec:
    """Parses and checks an identifier without making the environment.

    Raises:
        UnknownEnvironmentError: unknown family, task or view; the message names the nearest known.
        MissingPackageError: the family's simulator is not installed.
    """
    name, colon, rest = env_id.partition(":")
    if not colon or not rest:
        raise UnknownEnvironmentError(
            f"{env_id!r}: expected FAMILY:TASK[+VIEW], for example 'minigrid:MiniGrid-DoorKey-8x8-v0+map'"
            f"{_nearest_id(env_id)}"
        )
    chosen = family(name)
    task, *views = rest.split("+")
    for view in views:
        if view not in chosen.views:
            known = ", ".join(f"+{v}" for v in chosen.views) or "none"
            hint = nearest(view, chosen.views, prefix="+")
            raise UnknownEnvironmentError(f"{env_id!r}: {name} has no view '+{view}'{hint}; known: {known}")
    tasks = chosen.tasks()
    if task not in tasks:
        raise UnknownEnvironmentError(
            f"{env_id!r}: {name} has no task {task!r}{nearest(task, tasks, prefix=name + ':')}"
        )
    return Spec(name, task, tuple(views))


def make(
    env_id: str, *, seed: int | None = None, render_mode: str | None = None, **options: Any
) -> gymnasium.Env[Any, Any]:
    """Makes an environment with the gymnasium API.

    Args:
        env_id: `FAMILY:TASK[+VIEW...]`.
        seed: used by the first `reset` that brings no seed of its own, and by the action space.
        render_mode: None or "rgb_array".
        options: family-specific, see docs/environments.md (e.g. `repeat=4` for dm_control).

    `info["events"]` lists what happened on this step; `info["success"]` tells whether the task is
    solved (absent where the task has no such notion).
    """
    if render_mode not in (None, "rgb_array"):
        # A window's OpenGL (MiniGrid's "human") would end that of the control suite in the same process.
        raise ValueError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}")
    parsed = spec(env_id)
    env = family(parsed.family).build(parsed, render_mode=render_mode, **options)
    if seed is not None:
        from thick.envs.wrappers import FirstSeed

        env = FirstSeed(env, seed=seed)
        env.action_space.seed(seed)
    return env


def nearest(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """`"; did you mean 'x'?"` for the known word nearest to `word`, else an empty string."""
    lowered = {k.lower(): k for k in known}
    match = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.4)
    return f"; did you mean '{prefix}{lowered[match[0]]}'?" if match else ""


def _nearest_id(word: str) -> str:
    """A suggestion for an identifier whose family was left out, as far as simulators are installed."""
    known: list[str] = []
    for name in _MODULES:
        try:
            known += [f"{name}:{task}" for task in family(name).tasks()]
        except MissingPackageError:
            continue  # a suggestion can only come from what is installed
    ends = [k for k in known if k.partition(":")[2] == word.partition("+")[0]]
    return f"; did you mean '{ends[0]}'?" if ends else nearest(word, known)


def require(package: str) -> Any:
    """Imports a simulator's package, or says how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"{package} is needed for these environments and could not be imported ({error}): "
            f"{install_command('envs')}"
        ) from error
