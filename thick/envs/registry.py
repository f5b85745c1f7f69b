"""The registry: identifiers, families, and the one function that makes environments.

A family is one module with a `FAMILY: Family`. To add one, write `thick/envs/NAME.py` and add its
line to `_MODULES`. Another package declares an entry point of the group `thick.envs`, NAME = "MODULE" or
"MODULE:OBJECT", or calls `register`. An identifier whose family is a file or a module is a factory
(`thick.envs.factories`).
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thick.envs import factories
from thick.envs.errors import (
    MissingPackageError,
    UnknownEnvironmentError,
    UnusableEnvironmentError,
    reason,
)
from thick.envs.packages import require
from thick.envs.surroundings import Surroundings, at_home
from thick.nearest import did_you_mean

if TYPE_CHECKING:
    import gymnasium

_MODULES: dict[str, str] = {
    "minigrid": "thick.envs.minigrid",
    "dm_control": "thick.envs.dm_control",
    "pinpad": "thick.envs.pinpad",
    "minihack": "thick.envs.minihack",
    "metaworld": "thick.envs.metaworld",
    "gym": "thick.envs.gym",
}


FACTORY_VIEWS = {"notext": "without the entries that are text"}
GROUP = "thick.envs"
"""entry points of other packages"""


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
    check: Callable[[str], None] | None = None
    """check(task) raises UnknownEnvironmentError; None: a task is one of `tasks()`"""
    foreign: bool = False
    """made by others: spaces, dtypes and the protocol are adapted and checked (`thick.envs.adapt`)"""


def register(name: str, module: str) -> None:
    """Adds a family: `module` is imported on first use and holds `FAMILY: Family`."""
    if name in _MODULES and _MODULES[name] != module:
        raise ValueError(f"environment family {name!r} is already provided by {_MODULES[name]}")
    _MODULES[name] = module


def families() -> tuple[str, ...]:
    """Names of all families, installed or not, those of other packages last."""
    return (*_MODULES, *(name for name in _plugins() if name not in _MODULES))


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        UnknownEnvironmentError: there is none; the message names the nearest one.
        UnusableEnvironmentError: another package declares it, and it cannot be loaded.
    """
    if name in _MODULES:
        loaded, source = importlib.import_module(_MODULES[name]).FAMILY, f"{_MODULES[name]}.FAMILY"
    elif name in _plugins():
        point = _plugins()[name]
        source = f"{point.value} (of {point.dist.name if point.dist else 'another package'})"
        try:
            with Surroundings():
                loaded = point.load()
            loaded = getattr(loaded, "FAMILY", loaded)
        except MissingPackageError:
            raise
        except Exception as error:
            raise UnusableEnvironmentError(f"{name}: {source} cannot be loaded: {reason(error)}") from error
    else:
        known = families()
        raise UnknownEnvironmentError(
            f"unknown environment family {name!r}{did_you_mean(name, known)}; known: {', '.join(known)} "
            "(and there is no module of that name that can be imported)"
        )
    if not isinstance(loaded, Family):
        raise TypeError(f"{source}: expected a thick.envs.Family, got {type(loaded).__name__}")
    return loaded


def spec(env_id: str) -> Spec:
    """Parses and checks an identifier without making the environment.

    Raises:
        UnknownEnvironmentError: unknown family, task or view; the message names the nearest known.
        MissingPackageError: the family's simulator is not installed.
    """
    code = names_code(env_id)
    if code is not None:
        _check_views(env_id, code.views, FACTORY_VIEWS, code.family)
        factories.find(code.family, code.task)
        return code
    name, colon, rest = env_id.partition(":")
    if not colon or not rest:
        raise UnknownEnvironmentError(
            f"{env_id!r}: expected FAMILY:TASK[+VIEW], for example 'minigrid:MiniGrid-DoorKey-8x8-v0+map', "
            f"or FILE.py:CLASS{_nearest_id(env_id)}"
        )
    chosen = family(name)
    task, *views = rest.split("+")
    _check_views(env_id, views, chosen.views, name)
    if chosen.check is not None:
        chosen.check(task)
        return Spec(name, task, tuple(views))
    tasks = chosen.tasks()
    if task not in tasks:
        raise UnknownEnvironmentError(
            f"{env_id!r}: {name} has no task {task!r}{did_you_mean(task, tasks, prefix=name + ':')}"
        )
    return Spec(name, task, tuple(views))


def names_code(env_id: str) -> Spec | None:
    """The parsed identifier where it names a class or function of a file or module; None for a family's task.

    Raises:
        UnknownEnvironmentError: it names a file, but nothing in it.
    """
    name = env_id.partition(":")[0]
    if name in _MODULES or name in _plugins():
        return None
    parsed = factories.parse(env_id)
    if parsed is None or not (factories.is_file(parsed[0]) or factories.exists(parsed[0])):
        return None
    return Spec(*parsed)


def _check_views(env_id: str, views: Iterable[str], known: Mapping[str, str], name: str) -> None:
    for view in views:
        if view not in known:
            listed = ", ".join(f"+{v}" for v in known) or "none"
            hint = did_you_mean(view, known, prefix="+")
            raise UnknownEnvironmentError(f"{env_id!r}: {name} has no view '+{view}'{hint}; known: {listed}")


def make(
    env_id: str, *, seed: int | None = None, render_mode: str | None = None, **options: Any
) -> gymnasium.Env[Any, Any]:
    """Makes an environment with the gymnasium API.

    Args:
        env_id: `FAMILY:TASK[+VIEW...]`, or `FILE.py:CLASS`, `MODULE:CLASS` (or a function).
        seed: used by the first `reset` that brings no seed of its own, and by the action space.
        render_mode: None or "rgb_array".
        options: family-specific, see docs/environments.md (e.g. `repeat=4` for dm_control).

    `info["events"]` lists what happened on this step; `info["success"]` says whether the task is
    solved (absent where the task has no such notion).
    """
    if render_mode not in (None, "rgb_array"):
        # A window's OpenGL (MiniGrid's "human") would end that of the control suite in the same process.
        raise ValueError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}")
    with at_home():
        env = _made(env_id, render_mode, options)
    if seed is not None:
        from thick.envs.wrappers import FirstSeed

        env = FirstSeed(env, seed=seed)
        env.action_space.seed(seed)
    return env


def _made(env_id: str, render_mode: str | None, options: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """The environment that an identifier names."""
    parsed = spec(env_id)
    if names_code(env_id) is not None:
        return _made_by_others(parsed, factories.find(parsed.family, parsed.task), render_mode, options)
    if family(parsed.family).foreign:
        return _made_by_others(parsed, None, render_mode, options)
    try:
        with Surroundings(env_id):
            return family(parsed.family).build(parsed, render_mode=render_mode, **options)
    except (TypeError, UnusableEnvironmentError) as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None or unknown[1] not in options:
            raise
        raise UnusableEnvironmentError(
            f"{env_id}: {parsed.family} has no option {unknown[1]!r}; docs/environments.md has those of each family"
        ) from error


def check_unasked(env_id: str) -> None:
    """Whether an identifier that came with a model may be made where nobody asked for it by name.

    A manifest may come from elsewhere. What it names is made only if that is an environment: a registered one, or a
    class derived from gymnasium.Env in an installed module or in a file below the present folder.

    Raises:
        UnusableEnvironmentError: it is something else that would be called.
        UnknownEnvironmentError, MissingPackageError: there is no such thing here.
    """
    code = names_code(env_id)
    place = code.family if code else env_id.partition(":")[2].rpartition(":")[0]
    if place.partition(".")[0] in sys.stdlib_module_names and not place.endswith(".py"):
        raise UnusableEnvironmentError(
            f"{env_id} names a module of Python itself, which holds no environments"
        )
    if code is None:
        spec(env_id)
        return
    path = Path(place)
    if factories.is_file(place) and not path.resolve().is_relative_to(Path.cwd()):
        raise UnusableEnvironmentError(f"{env_id} lies outside of the folder {Path.cwd()}")
    found = factories.find(code.family, code.task)
    if not isinstance(found, type) or not issubclass(found, require("gymnasium").Env):
        raise UnusableEnvironmentError(f"{env_id} is a function or another class, not a gymnasium.Env")


def check(env_id: str, **options: Any) -> None:
    """Makes an environment, plays a few steps, and closes it: what is wrong with it is reported before anything begins.

    Raises:
        UnknownEnvironmentError, UnusableEnvironmentError, MissingPackageError: in one line.
        ValueError: its spaces are none that a model can read, or its actions none that a planner can choose.
    """
    from thick.envs.actions import ActionCodec
    from thick.envs.kinds import kinds_of
    from thick.envs.trial import try_out

    env = make(env_id, **options)
    try:
        kinds_of(env.observation_space)
        ActionCodec(env.action_space)
        try_out(env, env_id)
    finally:
        env.close()


def _made_by_others(
    parsed: Spec, factory: Callable[..., Any] | None, render_mode: str | None, options: dict[str, Any]
) -> gymnasium.Env[Any, Any]:
    """An environment of a factory or a foreign family, adapted; our options for that are taken out first."""
    from thick.envs import adapt

    own = factories.names(factory) if factory else set()
    ours = {name: options[name] for name in adapt.OPTIONS if name in options and name not in own}
    theirs = {name: value for name, value in options.items() if name not in ours}
    around = Surroundings(parsed.id) if factory is None else factories.around(parsed.family, parsed.id)
    with around:
        if factory is not None:
            env = factories.call(factory, parsed.id, theirs, render_mode)
        else:
            env = family(parsed.family).build(parsed, render_mode=render_mode, **theirs)
        made = adapt.adapted(env, parsed.id, notext="notext" in parsed.views, **ours)
    made.around = around
    return made


def _nearest_id(word: str) -> str:
    """A suggestion for an identifier whose family was left out, as far as simulators are installed."""
    known: list[str] = []
    for name in families():
        try:
            known += [f"{name}:{task}" for task in family(name).tasks()]
        except (MissingPackageError, UnusableEnvironmentError):
            continue  # a suggestion can only come from what is installed
    ends = [k for k in known if k.partition(":")[2] == word.partition("+")[0]]
    return f"; did you mean '{ends[0]}'?" if ends else did_you_mean(word, known)


@cache
def _plugins() -> dict[str, Any]:
    """Families that other packages declare, by name, not yet loaded."""
    return {point.name: point for point in entry_points(group=GROUP)}
