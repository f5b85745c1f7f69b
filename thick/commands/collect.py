"""``thick collect``: play an environment with a policy that needs no model, and keep what happened."""

from __future__ import annotations

import json
import sys

from thick.arguments import Parser, at_least, folder_to_write
from thick.cli import Command
from thick.envs.errors import MissingPackageError
from thick.envs.options import add_env_options


def run(argv: list[str]) -> int:
    """Parse the arguments, collect, print a summary."""
    parser = Parser(
        prog="thick collect",
        description="Collect a data set: a folder of arrays that 'thick train --data.dataset DIR' learns from.",
    )
    parser.add_argument(
        "--env",
        required=True,
        action="append",
        help="task, such as minigrid:MiniGrid-DoorKey-8x8-v0+map, gym:CartPole-v1 or own_env.py:Corridor; may be given "
        "several times for tasks of the same spaces, which the streams take in turn",
    )
    add_env_options(parser)
    parser.add_argument(
        "--policy", default="random", help="random, or scripted (key-and-door rooms of MiniGrid)"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the policy, such as epsilon=0.3",
    )
    parser.add_argument("--steps", type=at_least(1), default=100_000, help="steps in all")
    parser.add_argument("--streams", type=at_least(1), default=8, help="environments side by side")
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument(
        "--out", type=folder_to_write, required=True, help="folder to write; must not hold a data set yet"
    )
    options = parser.parse_args(argv)

    from thick.configuration import read_value
    from thick.data.dataset import CollectingFailedError, collect
    from thick.files import FolderInUseError
    from thick.progress import Screen
    from thick.training.interrupts import StopRequest, on_signals

    policy_options = {}
    for item in options.option:
        name, equals, value = item.partition("=")
        if not (name and equals):
            parser.error(f"argument --option: expected NAME=VALUE, such as epsilon=0.3, got {item!r}")
        try:
            policy_options[name] = read_value(f"argument --option: {name}", value)
        except ValueError as error:
            parser.error(str(error))
    stop = StopRequest()
    known = (ValueError, TypeError, ArithmeticError, OSError, MissingPackageError, FolderInUseError)
    try:
        with (
            Screen() as screen,
            screen.task("collecting", options.steps) as bar,
            on_signals(stop, "stopping; what was collected is kept (once more stops at once)"),
        ):
            _, summary = collect(
                options.env if len(options.env) > 1 else options.env[0],
                policy=options.policy,
                steps=options.steps,
                streams=options.streams,
                seed=options.seed,
                directory=options.out,
                options=options.env_options,
                policy_options=policy_options,
                progress=bar,
                stopped=lambda: stop.requested,
            )
    except known as error:
        print(f"thick collect: {error}", file=sys.stderr)
        return 2
    except CollectingFailedError as error:
        print(json.dumps(error.summary, indent=1))
        print(
            f"thick collect: {error}, in the data set {options.out}; more goes into another folder, with another "
            "--seed",
            file=sys.stderr,
        )
        if not isinstance(error.__cause__, known):
            raise  # of the environment's own: with its traceback
        return 1
    except KeyboardInterrupt:
        kept = (options.out / "replay.json").is_file()
        said = f"what was collected is kept in {options.out}" if kept else "nothing was kept"
        print(f"thick collect: stopped at once; {said}", file=sys.stderr)
        return 130
    if not summary["steps"]:
        print("thick collect: stopped before the first step; nothing was kept", file=sys.stderr)
        return 130
    print(json.dumps(summary, indent=1))
    print(f"data set: {options.out}", file=sys.stderr)
    return 130 if stop.requested else 0


command = Command("collect", "play an environment and keep the steps as a data set", run)
