"""The command line of ``thick serve``: a flag for each setting, read by pydantic-settings.

What is our own here is how it looks: groups, short defaults, and the nearest flag where one is not known.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from pydantic_settings import CliSettingsSource

from service.settings import GROUPS, Settings, SettingsError, build
from thick.nearest import nearest

_UNKNOWN = re.compile(r"unrecognized arguments: ([^ =]+)")
_NO_DEFAULT = re.compile(r" \(default: (None|False|\(\)|)\)$")


def from_arguments(argv: Sequence[str], *, program: str = "thick serve") -> Settings:
    """Settings from flags and ``THICK_*`` variables.

    Raises:
        SettingsError: a flag is unknown (the nearest is named), or a value is wrong.
        SystemExit: ``--help`` was asked for.
    """
    parser = _Parser(
        prog=program,
        description="Host trained models and answer over HTTP and gRPC: act, plan, imagine. Every flag "
        "is also a variable: --grpc-port is THICK_GRPC_PORT. A flag wins over its variable.",
        epilog="example: thick serve --models checkpoints --port 8000",
        allow_abbrev=False,
        formatter_class=partial(argparse.HelpFormatter, max_help_position=30, width=_width()),
    )
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    source: Any = CliSettingsSource(
        Settings,
        root_parser=parser,
        add_argument_method=partial(_add_argument, groups),
        cli_implicit_flags=True,
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )
    return build(source(args=list(argv))())


class _Parser(argparse.ArgumentParser):
    """Errors as exceptions of ours, with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        unknown = _UNKNOWN.search(message)
        if unknown is None:
            raise SettingsError(message.removeprefix("argument "))
        name = unknown.group(1)
        near = nearest(name, [flag for action in self._actions for flag in action.option_strings])
        hint = f"did you mean {near}?" if near else f"{self.prog} --help lists what there is"
        raise SettingsError(f"{name}: no such flag; {hint}")


def _add_argument(
    groups: dict[str, argparse._ArgumentGroup], _: argparse.ArgumentParser, *names: str, **options: Any
) -> None:
    """Adds the flag of a setting to its group."""
    field = Settings.model_fields[options["dest"]]
    shown: Any = field.json_schema_extra
    metavar = options.get("metavar")
    if metavar is not None and not metavar.startswith("{"):
        options["metavar"] = shown["metavar"]
    options["help"] = _NO_DEFAULT.sub("", options["help"]).replace("%", "%%")
    groups[shown["group"]].add_argument(*names, **options)


def _width() -> int:
    return 110 if sys.stdout.isatty() else 100
