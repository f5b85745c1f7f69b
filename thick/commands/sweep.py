"""``thick sweep``: many runs from one file, as a queue that can be stopped and goes on."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from thick.arguments import Parser, at_least
from thick.cli import Command

if TYPE_CHECKING:
    from thick.sweeps.definition import SweepRuns
    from thick.sweeps.pools import Pool

EXAMPLES = """
examples:
  thick sweep experiments/chain.yaml                one process a core; Ctrl-C saves, the same command goes on
  thick sweep experiments/chain.yaml --list         what is done, running, failed
  thick sweep experiments/chain.yaml --ray auto     the same runs on a Ray cluster that sees the same folders

A sweep file: name, folder, base (presets), config (fields), grid (axes), exclude, before and after (commands), results
(a CSV). See docs/training.md.
"""


def run(argv: list[str]) -> int:
    """Parse the arguments, work through the queue, say what became of it."""
    parser = Parser(
        prog="thick sweep",
        description="Train every run of a grid, then run the commands that come after; finished ones are skipped, "
        "interrupted ones go on, one that fails stops no other.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="YAML file of the sweep")
    parser.add_argument("--list", action="store_true", help="show the state of every run, and stop")
    parser.add_argument(
        "--jobs", type=at_least(0), default=0, help="runs at a time (default: one a processor)"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster: auto, local, or its address")
    options = parser.parse_args(argv)
    if options.jobs < 0:
        parser.error(f"--jobs: expected at least 1, got {options.jobs}")

    from thick.envs import MissingPackageError
    from thick.files import FolderInUseError
    from thick.progress import Screen
    from thick.sweeps.definition import read_sweep
    from thick.sweeps.pools import Processes, RayPool
    from thick.sweeps.queue import Queue
    from thick.sweeps.results import gather

    pool: Pool | None = None
    try:
        plan = read_sweep(options.file)
        if options.list:
            return show(plan)
        pool = RayPool(options.ray) if options.ray else Processes(options.jobs or processors(plan))
        with Screen() as screen:
            counts = Queue(plan, pool, screen).run()
        written = gather(plan)
    except (ValueError, TypeError, OSError, MissingPackageError, FolderInUseError) as error:
        print(f"thick sweep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "thick sweep: stopped at once; the same command goes on from the last checkpoints",
            file=sys.stderr,
        )
        return 130
    finally:
        if pool is not None:
            pool.close()
    said = ", ".join(
        f"{counts[what]} {what}" for what in ("done", "skipped", "failed", "stopped") if counts[what]
    )
    print(f"{plan.folder}: {said}")
    for path in written:
        print(f"  results:  {path}")
    if counts["stopped"]:
        print(f"  go on:    thick sweep {options.file}")
        return 130
    return 1 if counts["failed"] else 0


def show(plan: SweepRuns) -> int:
    """A table of all runs."""
    from rich.console import Console
    from rich.table import Table

    from thick.sweeps.queue import states

    table = Table(title=f"{plan.file}: {len(plan.runs)} runs in {plan.folder}")
    for heading in ("run", "state", "updates", "commands", "note"):
        table.add_column(heading, overflow="fold")
    for run, state, update in states(plan):
        done = len(state.steps) - len(state.pending)
        table.add_row(
            run.name,
            state.status,
            "-" if run.config is None else f"{update}/{run.config.stop or run.config.updates}",
            f"{done}/{len(state.steps)}" if state.steps else "-",
            state.error if state.status == "failed" else "",
        )
    Console().print(table)
    return 0


def processors(plan: SweepRuns) -> int:
    """How many runs fit on this machine's processors at a time."""
    most = max(run.config.threads for run in plan.runs if run.config is not None)
    return max(1, len(os.sched_getaffinity(0)) // most)


command = Command("sweep", "train a grid of runs as a queue, and gather their results", run)
