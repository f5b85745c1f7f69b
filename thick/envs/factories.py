"""Environments of one's own: `own_env.py:Corridor` and `package.module:make_env`.

A class or function of a Python file, or of a module that can be imported, is called with the options and gives an
environment. Nothing is imported before an environment is asked for.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from thick.envs.errors import MissingPackageError, UnknownEnvironmentError, UnusableEnvironmentError, reason
from thick.envs.surroundings import Surroundings
from thick.nearest import did_you_mean

_CODE = re.compile(r"(?P<place>.+?):(?P<name>[^\W\d][\w.]*)(?P<views>(?:\+[\w-]+)*)")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def parse(env_id: str) -> tuple[str, str, tuple[str, ...]] | None:
    """Place, name and views of an identifier that names code; None where it does not look like one."""
    if env_id.endswith(".py"):
        names = ", ".join(f"{env_id}:{name}" for name in _defined(_path(env_id)))
        raise UnknownEnvironmentError(
            f"{env_id!r}: say what to make from this file, FILE.py:CLASS or FILE.py:FUNCTION"
            + (f"; it has {names}" if names else "")
        )
    match = _CODE.fullmatch(env_id)
    if match is None:
        return None
    views = tuple(match["views"].split("+")[1:])
    if match["place"].endswith(".py") or _MODULE.fullmatch(match["place"]):
        return match["place"], match["name"], views
    return None


def is_file(place: str) -> bool:
    """Whether a place is a file rather than a module."""
    return place.endswith(".py")


def exists(place: str) -> bool:
    """Whether there is such a module, without importing it (its parents are)."""
    find_here()
    try:
        return importlib.util.find_spec(place) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def find(place: str, name: str) -> Callable[..., Any]:
    """The class or function behind `place:name`.

    Raises:
        UnknownEnvironmentError: there is no such file, module or name.
        UnusableEnvironmentError: it cannot be imported, or nothing there can be called.
    """
    module = _load_file(_path(place)) if is_file(place) else _load_module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
            hint = did_you_mean(name, known, prefix=f"{place}:")
            raise UnknownEnvironmentError(f"{place} has no {name!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        what = "an environment that is made already" if hasattr(found, "reset") else type(found).__name__
        raise UnusableEnvironmentError(
            f"{place}:{name} is {what}: name a class or a function, since several are made side by side"
        )
    return found


def around(place: str, env_id: str) -> Surroundings:
    """Those that the module of an environment left when it was imported, for an environment of it."""
    left = _AROUND.get(str(_path(place)) if is_file(place) else place)
    return Surroundings(env_id) if left is None else left.of(env_id)


_AROUND = dict[str, Surroundings]()
"""by file or module"""


def call(
    factory: Callable[..., Any], env_id: str, options: Mapping[str, Any], render_mode: str | None
) -> Any:
    """The environment that a factory makes; `render_mode` is passed on where it takes one.

    Raises:
        UnusableEnvironmentError: an option is missing, unknown or refused, or the result is no environment.
    """
    given = dict(options)
    if render_mode is not None:
        if not takes(factory, "render_mode"):
            raise UnusableEnvironmentError(f"{env_id} takes no render_mode, and so cannot be drawn")
        given["render_mode"] = render_mode
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        signature = None  # made in C: whether the options fit is seen when it is called
    if signature is not None:
        _check_options(signature, given, env_id)
    try:
        env = factory(**given)
    except MissingPackageError:
        raise
    except ImportError as error:
        raise MissingPackageError(f"{env_id} needs a package that cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise UnusableEnvironmentError(f"{env_id} could not be made: {reason(error)}") from error
    return env


def takes(factory: Callable[..., Any], name: str) -> bool:
    """Whether a factory has a parameter of that name (or takes any)."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def names(factory: Callable[..., Any]) -> set[str]:
    """The parameters that a factory has by name."""
    try:
        return set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return set()


def _check_options(signature: inspect.Signature, given: Mapping[str, Any], env_id: str) -> None:
    parameters = signature.parameters.values()
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in given:
        if name not in known and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            hint = did_you_mean(name, known) or f"; it takes {', '.join(known) or 'none'}"
            raise UnusableEnvironmentError(f"{env_id} has no option {name!r}{hint}")
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in given
    ]
    if needed:
        example = ", ".join(f"{name}: ..." for name in needed)
        raise UnusableEnvironmentError(
            f"{env_id} needs {' and '.join(map(repr, needed))}: give --env_options '{{{example}}}'"
        )


def _path(place: str) -> Path:
    path = Path(place).expanduser()
    if not path.is_file():
        raise UnknownEnvironmentError(
            f"no file {place} here ({Path.cwd()}): go to the folder it belongs to, or give its path"
        )
    return path.resolve()


def _load_file(path: Path) -> ModuleType:
    """The module of a file: imported once, with its folder on the path, as Python runs a script."""
    name = f"_thick_env_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        with _AROUND.setdefault(str(path), Surroundings()):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ImportError):
            raise MissingPackageError(f"{path.name} cannot be imported: {error}") from error
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UnusableEnvironmentError(f"{path.name} cannot be imported: {reason(error)}") from error
    return module


def _load_module(place: str) -> ModuleType:
    find_here()
    if place in sys.modules:
        return sys.modules[place]
    try:
        with _AROUND.setdefault(place, Surroundings()):
            return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(error.name + ".")):
            raise UnknownEnvironmentError(
                f"no module {place!r} can be imported: install its package, or run where it lies"
            ) from error
        raise MissingPackageError(f"{place} cannot be imported: {error}") from error
    except ImportError as error:
        raise MissingPackageError(f"{place} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise UnusableEnvironmentError(f"{place} cannot be imported: {reason(error)}") from error


def find_here() -> None:
    """As with `python -m`: modules that lie in the folder where a command runs are found, after installed ones."""
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
        importlib.invalidate_caches()


def _defined(path: Path) -> list[str]:
    """Classes and functions that a file defines, as far as it can be parsed."""
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, ValueError):
        return []
    public = (ast.ClassDef, ast.FunctionDef)
    return [node.name for node in tree.body if isinstance(node, public) and not node.name.startswith("_")]
