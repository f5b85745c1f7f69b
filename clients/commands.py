"""The subcommands ``thick drive``, ``imagine``, ``demo`` and ``explain --url``; what is heavy waits for a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from thick.cli import Command


def run_drive(argv: list[str]) -> int:
    """``thick drive``"""
    from clients.drive import run

    return _run("drive", run, argv)


def run_imagine(argv: list[str]) -> int:
    """``thick imagine``"""
    from clients.imagine import run

    return _run("imagine", run, argv)


def run_demo(argv: list[str]) -> int:
    """``thick demo``"""
    from clients.demo import run

    return _run("demo", run, argv)


def tell_of_served(argv: list[str]) -> Any:
    """What ``thick explain --url`` is to draw, or the exit code of what went wrong."""
    from clients.explain import explanation_of

    found: list[Any] = []

    def work(words: list[str]) -> int:
        found.append(explanation_of(words))
        return 0

    code = _run("explain", work, argv)
    return found[0] if found else code


def _run(name: str, work: Callable[[list[str]], int], argv: list[str]) -> int:
    """Runs a command; what a person can correct is reported in one line, without a traceback."""
    import logging

    import stamina.instrumentation

    from clients.demo import DemoError
    from clients.errors import PASSING, ClientError
    from thick.envs import MissingPackageError

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    stamina.instrumentation.set_on_retry_hooks([])  # a line for each retry would break the progress bar
    try:
        return work(argv)
    except (ClientError, DemoError, MissingPackageError, ValueError, OSError) as error:
        print(f"thick {name}: {error}", file=sys.stderr)
        return 1 if isinstance(error, PASSING) else 2
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError):
            raise  # the dispatcher says what to install
        print(f"thick {name}: {error}", file=sys.stderr)
        return 2


drive = Command("drive", "play episodes in an environment with actions from a running service", run_drive)
imagine = Command("imagine", "draw what a model at a running service expects to happen next", run_imagine)
demo = Command("demo", "serve a bundled model, let it solve its task, draw what it imagines", run_demo)
