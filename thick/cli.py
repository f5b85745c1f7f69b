"""The `thick` program: finds its subcommands, lists them, and hands over.

A subcommand is an entry point of the group ``thick.commands`` (see pyproject.toml),
``NAME = "MODULE:command"``, where ``command`` is a :class:`Command` and MODULE is quick to import. Nothing
heavy is imported here: listing the subcommands takes no torch, and neither does `thick drive`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from thick.distribution import PACKAGES, ForeignPackageError, check_own, install_command, naming_neighbours
from thick.nearest import nearest

GROUP = "thick.commands"

# The list reads from what a newcomer tries first to what makes a model; commands of other packages follow.
ORDER = (
    "demo",
    "serve",
    "models",
    "drive",
    "imagine",
    "collect",
    "train",
    "sweep",
    "evaluate",
    "explain",
    "export",
)

# The extra of pyproject.toml that brings a module; a module named nowhere here belongs to the base install.
EXTRA_OF_MODULE = {
    "dm_control": "envs",
    "gymnasium": "envs",
    "metaworld": "metaworld",
    "minigrid": "envs",
    "minihack": "minihack",
    "mujoco": "envs",
    "nle": "minihack",
    "matplotlib": "train",
    "onnx": "train",
    "ray": "cluster",
    "safetensors": "train",
    "tensorboard": "train",
    "torch": "train",
    "yaml": "train",
    "google": "grpc",
    "grpc": "grpc",
    "fastapi": "serve",
    "grpc_health": "serve",
    "grpc_reflection": "serve",
    "onnxruntime": "serve",
    "prometheus_client": "serve",
    "pydantic_settings": "serve",
    "redis": "serve",
    "starlette": "serve",
    "structlog": "serve",
    "uvicorn": "serve",
    "uvloop": "serve",
    "websockets": "serve",
    "opentelemetry": "tracing",
}


EXIT_CODES = {
    0: "it did what was asked",
    1: "it began, and what was asked for failed: a run, a check, a service that went away",
    2: "it cannot do what was asked, and says why: a flag, a file, a model, an environment, a setting",
    130: "it was interrupted; what was kept is said",
}
"""what the exit code of every subcommand means"""


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes:
        name: what one types after ``thick``.
        summary: one line for the list, for a reader who has not seen the project.
        run: takes the arguments after the name, without it, and returns the exit code (:data:`EXIT_CODES`). It
            parses ``--help`` itself and imports what is heavy only once it runs.
    """

    name: str
    summary: str
    run: Callable[[list[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``thick ARGV`` and return its exit code (:data:`EXIT_CODES`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        print("thick: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader went away (`thick models | head`). Point stdout elsewhere, or the exit flush fails again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(arguments: list[str]) -> int:
    known = discover()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(known))
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version"):
        print(f"thick {installed_version()}")
        return 0
    if name == "help":
        if not rest:
            print(usage(known))
            return 0
        name, rest = rest[0], ["--help"]
    if name not in known:
        print(unknown_command(name, known), file=sys.stderr)
        return 2
    try:
        with naming_neighbours():
            return int(load(known[name]).run(rest) or 0)
    except ForeignPackageError as error:
        print(f"thick {name}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if not _is_third_party(error):
            raise
        print(f"thick {name}: {missing_module(error, known[name])}", file=sys.stderr)
        return 2


def discover() -> dict[str, EntryPoint]:
    """The subcommands that are installed, by name, in the order of the list."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    rank = {name: place for place, name in enumerate(ORDER)}
    return {name: points[name] for name in sorted(points, key=lambda name: (rank.get(name, len(rank)), name))}


def load(point: EntryPoint) -> Command:
    """Import the subcommand behind an entry point.

    Raises:
        TypeError: the entry point names something that is no :class:`Command`.
        ForeignPackageError: another project's package lies where the command's own is expected.
        ImportError: its module cannot be imported.
    """
    package = point.value.partition(".")[0]
    if package in PACKAGES:
        check_own(package)
    with naming_neighbours(package):
        command = point.load()
    if not isinstance(command, Command):
        raise TypeError(
            f"entry point {point.name} = {point.value!r} of {GROUP}: "
            f"expected a thick.cli.Command, got {type(command).__name__}"
        )
    return command


def usage(known: dict[str, EntryPoint]) -> str:
    """The text of ``thick --help``: what it is, then one line for each subcommand."""
    width = max((len(name) for name in known), default=0)
    lines = [
        "Hierarchical world models (THICK): train them, serve them, act and imagine through them.",
        "",
        "usage: thick COMMAND [OPTIONS]      thick COMMAND --help      thick --version",
        "",
    ]
    if not known:
        lines.append("No commands are installed: run `pip install -e .` in the repository, or `make`.")
    else:
        lines.append("commands:")
    for name, point in known.items():
        lines.append(f"  {name:<{width}}  {_summary(point)}")
    lines += ["", "exit codes:", *(f"  {code:<{width}}  {meaning}" for code, meaning in EXIT_CODES.items())]
    return "\n".join(lines)


def _summary(point: EntryPoint) -> str:
    # One command that cannot be imported must not hide the others, whoever wrote it.
    try:
        return load(point).summary
    except ModuleNotFoundError as error:
        return f"(not available: {missing_module(error, point)})"
    except Exception as error:
        return f"(not available: {error})"


def unknown_command(name: str, known: dict[str, EntryPoint]) -> str:
    """What to say to ``thick NAME`` where there is no such command: the nearest name, and where to look."""
    near = nearest(name, known)
    hint = f" Did you mean `thick {near}`?" if near else ""
    return f"thick: no command {name!r}.{hint} `thick --help` lists them: {', '.join(known) or 'none'}."


def missing_module(error: ModuleNotFoundError, point: EntryPoint) -> str:
    """What to install for the module that the subcommand behind ``point`` misses."""
    module = (error.name or "").partition(".")[0]
    if module in PACKAGES:
        return f"{error}. The installed package and this checkout differ; in the repository: pip install -e ."
    extra = EXTRA_OF_MODULE.get(module)
    if extra is not None and point.value.startswith("service."):
        # One installation is enough: what a service needs comes with it, whatever else brings it too.
        extra = {"torch": "service", "opentelemetry": "tracing"}.get(module, "serve")
    return f"the Python module {module!r} is not installed: {install_command(extra)}"


def _is_third_party(error: ModuleNotFoundError) -> bool:
    return bool(error.name) and str(error.name).partition(".")[0] not in PACKAGES


def installed_version() -> str:
    """The version of the distribution that brings the commands, or ``unknown`` where none is installed."""
    for point in entry_points(group=GROUP):
        if point.value.startswith("thick.") and point.dist is not None:
            return point.dist.version
    return "unknown (not installed)"


if __name__ == "__main__":
    # Run as `python -m thick.cli`, this module exists twice; commands are made of the imported one's Command.
    from thick.cli import main as imported_main

    sys.exit(imported_main())
