"""The subcommands ``thick serve`` and ``thick models``; light to import, whatever is heavy waits until they
run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from thick.arguments import Parser
from thick.cli import Command


def run_serve(argv: list[str]) -> int:
    """``thick serve``: host the models of a repository until SIGTERM."""
    # Threads that spin while they wait cost a busy machine a hundredfold (see docs/service.md). Read once, by
    # the first import of torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from service.flags import from_arguments
    from service.settings import SettingsError

    try:
        settings = from_arguments(argv)
        settings.check_exposure()
        from service.server import run

        return run(settings)
    except SettingsError as error:
        for line in str(error).splitlines():
            print(f"thick serve: {line}", file=sys.stderr)
        return 2


def run_models(argv: list[str]) -> int:
    """``thick models``: what lies in a repository, and whether it can be served; needs no torch and no
    server."""
    parser = Parser(
        prog="thick models",
        description="List the models of a repository: name, version, kind, task, and whether it can be read.",
    )
    parser.add_argument(
        "--models", default="checkpoints", metavar="DIR", type=Path, help="model repository (checkpoints)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("name", nargs="?", help="show everything about this model")
    arguments = parser.parse_args(argv)
    from service.models.repository import describe_repository, unreadable, where_models_are

    if not arguments.models.is_dir():
        print(
            f"thick models: {arguments.models} is not a folder; name the repository with --models",
            file=sys.stderr,
        )
        return 2
    if not os.access(arguments.models, os.R_OK | os.X_OK):
        print(f"thick models: {arguments.models} may not be read", file=sys.stderr)
        return 2
    for name in unreadable(arguments.models):
        print(f"thick models: {name} is left out: it may not be read", file=sys.stderr)
    rows = describe_repository(arguments.models)
    if arguments.name:
        rows = [row for row in rows if row["name"] == arguments.name]
        if not rows:
            print(f"thick models: no model {arguments.name!r} in {arguments.models}", file=sys.stderr)
            return 2
    if arguments.json or arguments.name:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        print(f"No models in {arguments.models}: {where_models_are(arguments.models)}")
        return 0
    table = [("NAME", "VERSION", "KIND", "TASK", "STATE")]
    table += [(row["name"], row["version"], row["kind"], row["task"] or "", row["state"]) for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        if row["reason"]:
            print(f"\n{row['name']} {row['version']}: {row['reason']}")
    return 0


serve = Command("serve", "host trained models: act, plan and imagine over HTTP and gRPC", run_serve)
models = Command("models", "list the models of a repository and what is known about them", run_models)
