"""Who may import whom, and that nothing unpickles: the house rules, read from the source without running it.

Every import statement counts, also those inside functions and under ``TYPE_CHECKING``: a package that is
promised to work without torch must not want it later either. Tests of the start-up count what runs on import.
"""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from thick import cli

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("thick", "service", "clients")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = packages_distributions()
WEB = {"fastapi", "starlette", "uvicorn"}


class Repository:
    """The modules under ``root`` and their import statements.

    Args:
        root: folder that holds the packages.
        packages: names of the packages to read.
    """

    def __init__(self, root: Path, packages: tuple[str, ...] = PACKAGES) -> None:
        self.files: dict[str, Path] = {}
        for package in packages:
            for file in sorted((root / package).rglob("*.py")):
                parts = file.relative_to(root).with_suffix("").parts
                self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        self.everything = {name: set(self._imports(name, ast.walk)) for name in self.files}
        self.on_start = {name: set(self._imports(name, _runs_on_import)) for name in self.files}

    def _imports(self, name: str, walk: Callable[[ast.AST], Iterator[ast.AST]]) -> Iterator[str]:
        """What the module ``name`` imports, with the packages whose ``__init__`` runs on the way."""
        yield from _parents(name)
        for base, names in self._statements(name, walk):
            yield from (*_parents(base), base)
            yield from (f"{base}.{each}" for each in names)

    def _statements(
        self, name: str, walk: Callable[[ast.AST], Iterator[ast.AST]]
    ) -> Iterator[tuple[str, list[str]]]:
        """The module that each import names, and what it takes from it."""
        file = self.files[name]
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for node in walk(ast.parse(file.read_text(), str(file))):
            if isinstance(node, ast.Import):
                yield from ((alias.name, []) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*parent, base] if base else parent)
                yield base, [alias.name for alias in node.names]

    def modules(self, prefix: str) -> list[str]:
        """The modules of a package (or the one module), by dotted name."""
        return [name for name in self.files if _within(name, prefix)]

    def reached(self, start: str, *, on_start: bool = False) -> dict[str, list[str]]:
        """What ``start`` reaches, transitively: dotted name -> the chain of modules that leads there."""
        graph = self.on_start if on_start else self.everything
        chains: dict[str, list[str]] = {}
        queue = [(start, [start])]
        while queue:
            name, chain = queue.pop(0)
            if name in chains:
                continue
            chains[name] = chain
            targets = sorted(graph.get(name, ()))
            queue.extend((target, [*chain, target]) for target in targets)
        return chains

    def circles(self, package: str) -> list[list[str]]:
        """Modules of a package that import each other, directly or by way of others: a chain that ends where it began
        for each knot. A package's ``__init__`` counts where something is taken from it, not for being on the way."""
        inside = set(self.modules(package))
        graph = {name: sorted(self._named(name) & inside - {name}) for name in inside}
        found, seen = [], set()
        for start in sorted(inside):
            chains: dict[str, list[str]] = {}
            queue = [[start]]
            while queue and start not in chains:
                chain = queue.pop(0)
                for target in graph[chain[-1]]:
                    if target not in chains:
                        chains[target] = [*chain, target]
                        queue.append(chains[target])
            if start in chains and not seen & set(chains[start]):
                found.append(chains[start])
                seen |= set(chains[start])
        return found

    def _named(self, name: str) -> set[str]:
        """The modules that a module's imports name, anywhere in it."""
        targets = set()
        for base, names in self._statements(name, ast.walk):
            inner = {f"{base}.{each}" for each in names} & self.files.keys()
            targets |= inner if len(inner) == len(names) and names else {*inner, base}
        return targets & self.files.keys()

    def breaches(self, starts: list[str], forbidden: set[str], *, on_start: bool = False) -> list[str]:
        """For each of ``starts`` the shortest way to each forbidden package that it reaches."""
        lines = []
        for start in starts:
            chains = self.reached(start, on_start=on_start)
            for bad in sorted(forbidden):
                ways = [chain for name, chain in chains.items() if _within(name, bad)]
                if ways:
                    lines.append(" -> ".join(min(ways, key=len)))
        return lines


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _runs_on_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: not function bodies, not ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _runs_on_import(node)


@pytest.fixture(scope="module")
def repository() -> Repository:
    return Repository(ROOT)


@pytest.mark.parametrize("package", ["clients", "service.protocol", "thick.envs"])
def test_a_light_package_reaches_neither_torch_nor_a_web_framework(
    repository: Repository, package: str
) -> None:
    modules = repository.modules(package)
    assert modules, f"{package} is missing"
    assert not repository.breaches(modules, {"torch", *WEB})


def test_clients_use_only_the_protocol_and_the_environments(repository: Repository) -> None:
    allowed = (
        "clients",
        "service.protocol",
        "thick.envs",
        "thick.arguments",
        "thick.cli",
        "thick.distribution",
        "thick.explaining.record",
        "thick.nearest",
        "thick.spaces",
    )
    for module in repository.modules("clients"):
        own = [name for name in repository.everything[module] if name.partition(".")[0] in PACKAGES]
        beyond = [
            name
            for name in own
            if name not in ("thick", "service", "thick.explaining")
            and not any(_within(name, prefix) for prefix in allowed)
        ]
        assert not beyond, f"{module} imports {beyond}"


def test_the_modules_of_the_clients_import_each_other_in_one_direction(repository: Repository) -> None:
    inits = {
        name for name, file in repository.files.items() if file.name == "__init__.py"
    }  # list what there is
    modules = set(repository.modules("clients")) - inits
    graph = {name: (repository.everything[name] & modules) - {name} for name in modules}
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(error.args[1]))


def test_the_protocol_stands_alone(repository: Repository) -> None:
    for module in repository.modules("service.protocol"):
        own = [name for name in repository.everything[module] if name.partition(".")[0] in PACKAGES]
        allowed = ("service.protocol", "thick.nearest", "thick.spaces")
        beyond = [
            name
            for name in own
            if name not in ("thick", "service") and not any(_within(name, prefix) for prefix in allowed)
        ]
        assert not beyond, f"{module} imports {beyond}"


def test_thick_knows_nothing_of_serving(repository: Repository) -> None:
    serving = {"service", "clients", "httpx", "grpc", "websockets", *WEB}
    assert not repository.breaches(repository.modules("thick"), serving)


def test_the_service_knows_nothing_of_training(repository: Repository) -> None:
    assert not repository.breaches(repository.modules("service"), {"thick.training", "thick.data", "clients"})


@pytest.mark.parametrize(
    "room",
    [
        "cluster", "core", "dreams", "engine", "faces", "models", "operations", "sessions", "settings", "stores", "ui",
        "workers",
    ],
)  # fmt: skip
def test_everything_but_the_process_itself_reaches_no_torch(repository: Repository, room: str) -> None:
    modules = repository.modules(f"service.{room}")
    assert modules, f"service.{room} is missing"
    assert not repository.breaches(modules, {"torch"})


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_by_way_of_others_types_included(
    repository: Repository, package: str
) -> None:
    circles = repository.circles(package)
    assert not circles, "\n".join(" -> ".join(circle) for circle in circles)


LONGEST = 400
"""lines: a file that outgrows them holds two ideas"""
GENERATED = "service.protocol.generated"


def test_no_file_of_the_packages_has_more_lines_than_one_idea_takes(repository: Repository) -> None:
    long = {
        name: lines
        for name, file in repository.files.items()
        if (lines := len(file.read_text().splitlines())) > LONGEST and not _within(name, GENERATED)
    }
    assert not long


def test_what_every_command_imports_first_is_light(repository: Repository) -> None:
    first = ["thick", "thick.cli", "service", "service.protocol", "clients"]
    first += [point.partition(":")[0] for point in _declared_commands().values()]
    heavy = {"torch", "numpy.distutils", "gymnasium", "matplotlib", "mujoco", "tensorboard", *WEB}
    missing = [name for name in first if name not in repository.files]
    assert not missing, f"declared in pyproject.toml, but not there: {missing}"
    assert not repository.breaches(first, heavy, on_start=True)


def test_planning_imagination_and_the_agent_need_no_torch(repository: Repository) -> None:
    # One text for every runtime: who plans in numpy has no torch, not even for types.
    modules = [
        name
        for package in ("thick.planning", "thick.imagination", "thick.agent", "thick.arrays", "thick.pytrees")
        for name in repository.modules(package)
        if name not in ("thick.arrays.torch_arrays", "thick.arrays.random_kernels")
    ]
    assert not repository.breaches([*modules, "thick.models.beliefs"], {"torch"})


def test_the_planner_settings_need_nothing_at_all(repository: Repository) -> None:
    # The service validates them before any model is at hand, and the protocol describes them.
    heavy = {"torch", "numpy", "gymnasium", *WEB}
    assert not repository.breaches(["thick.planning.settings"], heavy, on_start=True)


def _declared_commands() -> dict[str, str]:
    return dict(PROJECT["entry-points"][cli.GROUP])


def _declared(*extras: str) -> set[str]:
    """Names of the distributions that an install with these extras asks for."""
    names: set[str] = set()
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    for line in lines:
        name, nested = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", line).groups()  # type: ignore[union-attr]
        names |= _declared(*nested.split(",")) if name == PROJECT["name"] else {_normal(name)}
    return names


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("clients", ("envs", "grpc", "tracing")),
        ("service.protocol", ("grpc", "dev")),
        ("service", ("service", "tracing", "cluster", "dev")),
        ("thick.envs", ("envs", "minihack", "metaworld")),
        ("thick", ("train", "cluster", "minihack", "metaworld", "gpu")),
    ],
)
def test_what_a_package_imports_is_among_the_dependencies_of_its_extras(
    repository: Repository, package: str, extras: tuple[str, ...]
) -> None:
    declared = _declared(*extras)
    undeclared = {}
    for start in repository.modules(package):
        for name, chain in repository.reached(start).items():
            top = name.partition(".")[0]
            if not top or top in sys.stdlib_module_names or top in PACKAGES:
                continue
            holders = {_normal(holder) for holder in DISTRIBUTIONS.get(top, (top,))}
            if not holders & declared:
                undeclared[top] = " -> ".join(chain)
    assert not undeclared


# -- the same promise, checked by importing ----------------------------------------------------------------

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in {packages!r}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
print(sorted(name for name in sys.modules if name.partition(".")[0] in {heavy!r}))
"""


def _python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_every_light_module_loads_no_torch_and_no_web_framework() -> None:
    heavy = ("torch", *sorted(WEB))
    code = IMPORT_ALL.format(packages=("clients", "service.protocol", "thick.envs"), heavy=heavy)
    assert _python(code).splitlines()[-1] == "[]"


BASE_ONLY = """
import importlib, importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
for name in ("clients", "service.protocol", "thick.cli"):
    importlib.import_module(name)
from thick import cli
assert cli.main(["--help"]) == 0
"""


def test_the_base_install_imports_the_client_and_lists_every_command() -> None:
    listing = _python(BASE_ONLY.format(absent=tuple(cli.EXTRA_OF_MODULE)))
    assert "not available" not in listing


# -- nothing unpickles -------------------------------------------------------------------------------------

UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
LOADERS = {"load", "loads", "Unpickler", "open", "_loads", "_load"}
FRAMES = {"read_pickle", "unsafe_load", "full_load"}
HARMLESS = {"allow_pickle": "False", "weights_only": "True"}


def unpickling(source: str) -> list[str]:
    """The expressions of ``source`` that rebuild objects from bytes, with their lines."""
    if not re.search("|".join([*UNPICKLERS, *FRAMES, *HARMLESS, "torch", "yaml"]), source):
        return []  # nothing below would be found: reading a file takes time
    found = []
    tree = ast.parse(source)
    modules, functions = {}, {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in UNPICKLERS:
                    modules[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNPICKLERS:
            for alias in node.names:
                functions[alias.asname or alias.name] = alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in LOADERS | FRAMES:
            owner = ast.unparse(node.value)
            loads_weights = owner in ("torch", "th") and node.attr == "load"
            if (owner in modules and node.attr in LOADERS) or loads_weights or node.attr in FRAMES:
                found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Name) and functions.get(node.id) in LOADERS:
            found.append(f"{node.lineno}: {node.id}")
        elif isinstance(node, ast.keyword) and node.arg in HARMLESS:
            harmless = HARMLESS[node.arg]
            if ast.unparse(node.value) != harmless:
                found.append(f"{node.value.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Call) and _is_yaml_load(node.func):
            found.append(f"{node.lineno}: {ast.unparse(node)}: use yaml.safe_load")
    return found


def _is_yaml_load(called: ast.expr) -> bool:
    return isinstance(called, ast.Attribute) and called.attr == "load" and ast.unparse(called) == "yaml.load"


def _sources() -> list[Path]:
    folders = (*PACKAGES, "benchmarks", "scripts", "tests", "docs")
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def test_no_file_of_the_repository_unpickles() -> None:
    found = {str(file.relative_to(ROOT)): unpickling(file.read_text()) for file in _sources()}
    assert not {name: lines for name, lines in found.items() if lines}


def test_no_package_imports_a_pickler(repository: Repository) -> None:
    importers = {name for name, targets in repository.everything.items() if targets & UNPICKLERS}
    assert not importers


# -- the checks themselves notice what they are for --------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(data)",
        "import pickle as p\np.Unpickler(file)",
        "from pickle import loads as unpack\nunpack(data)",
        "import torch\ntorch.load('weights.pt', weights_only=True)",
        "import numpy as np\nnp.load('a.npy', allow_pickle=True)",
        "import numpy as np\nnp.load('a.npy', allow_pickle=flag)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import joblib\nload = joblib.load",
    ],
)
def test_the_search_for_unpickling_finds_it(source: str) -> None:
    assert unpickling(source)


def test_the_search_for_unpickling_leaves_honest_code_alone() -> None:
    assert not unpickling(
        "import json, pickle, numpy as np\n"
        "json.loads(text); np.load('a.npy', allow_pickle=False); forged = pickle.dumps({})\n"
    )


def test_an_import_is_followed_through_packages_and_functions(tmp_path: Path) -> None:
    files = {
        "clients/__init__.py": "from clients.a import thing",
        "clients/a.py": "from . import b\nthing = 1",
        "clients/b.py": "def later():\n    from thick.deep.core import model",
        "thick/__init__.py": "",
        "thick/deep/__init__.py": "import torch.nn as nn",
        "thick/deep/core.py": "model = 1",
    }
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    made_up = Repository(tmp_path, ("clients", "thick"))
    (chain,) = made_up.breaches(["clients"], {"torch"})
    assert chain == "clients -> clients.a -> clients.b -> thick.deep -> torch"
    assert not made_up.breaches(["clients"], {"torch"}, on_start=True)
    assert not made_up.breaches(["clients"], {"fastapi"})


def test_a_circle_is_found_wherever_its_imports_stand(tmp_path: Path) -> None:
    files = {
        "thick/__init__.py": "",
        "thick/a.py": "from thick import b, alone",
        "thick/b.py": "def later():\n    import thick.deep.c",
        "thick/deep/__init__.py": "from thick.deep.c import thing",
        "thick/deep/c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..a import name",
        "thick/alone.py": "import thick",
    }
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert Repository(tmp_path, ("thick",)).circles("thick") == [
        ["thick.a", "thick.b", "thick.deep.c", "thick.a"]
    ]
