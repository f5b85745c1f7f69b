"""``thick evaluate``: what a trained model is worth, by planning on seeds it was never trained on."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thick.arguments import Parser, at_least, file_to_write
from thick.cli import Command
from thick.envs.errors import MissingPackageError
from thick.envs.options import add_env_options
from thick.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table

    from thick.agent import Agent


def run(argv: list[str]) -> int:
    """Parse the arguments, play the episodes, print a table and write the JSON."""
    parser = Parser(
        prog="thick evaluate",
        description="Plan whole episodes on unseen seeds with each method, and with a random policy; for a run, the "
        "results are kept in it and go into the manifest on export.",
    )
    parser.add_argument(
        "model", type=Path, help="folder of a run, or an entry NAME/VERSION of a model repository"
    )
    parser.add_argument(
        "--env", metavar="ID", help="another environment with the same spaces (the model's task)"
    )
    add_env_options(parser)
    parser.add_argument("--episodes", type=at_least(1), default=200)
    parser.add_argument("--seed", type=at_least(0), default=0, help="episode i is reset with SEED + i")
    parser.add_argument(
        "--method", action="append", choices=("hierarchical", "flat", "policy", "random"),
        help="may be given several times (default: random, and what the model acts by: its actor, or its searches, "
        "hierarchical and flat)",
    )  # fmt: skip
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="planner setting, such as samples=500",
    )
    parser.add_argument("--parallel", type=at_least(1), default=20, help="environments stepped together")
    parser.add_argument("--max-steps", type=at_least(0), default=0, help="cut episodes here")
    parser.add_argument(
        "--within",
        type=at_least(1),
        nargs="+",
        default=[],
        metavar="STEPS",
        help="also report success within so many steps",
    )
    parser.add_argument("--threads", type=at_least(1), default=2)
    parser.add_argument(
        "--backend",
        choices=("auto", "native", "torch"),
        default="auto",
        help="what computes (auto: native kernels, and torch for models that they cannot run)",
    )
    parser.add_argument("--json", type=file_to_write(), help="write the results there")
    options = parser.parse_args(argv)

    import torch
    from rich.console import Console
    from rich.table import Table

    from thick.planning.settings import planner_changes
    from thick.progress import Screen
    from thick.runtimes.native import library as native
    from thick.training.evaluate import evaluate_agent
    from thick.training.runs import load_agent

    torch.set_num_threads(options.threads)
    native.use_threads(options.threads)
    try:
        agent, task, env_options = load_agent(
            options.model, env_id=options.env, env_options=options.env_options, backend=options.backend
        )
        changes = planner_changes(options.set)
        methods = options.method or own_methods(agent, changes)
        settings = {name: agent.settings({**changes, "method": name}) for name in methods if name != "random"}
    except (ValueError, FileNotFoundError, MissingPackageError, native.NativeUnavailable) as error:
        print(f"thick evaluate: {error}", file=sys.stderr)
        return 2
    results = {}
    try:
        with Screen() as screen:
            for method in methods:
                with screen.task(method, options.episodes) as bar:
                    results[method] = evaluate_agent(
                        None if method == "random" else agent,
                        task,
                        settings=settings.get(method),
                        episodes=options.episodes,
                        seed=options.seed,
                        parallel=options.parallel,
                        max_steps=options.max_steps,
                        options=env_options,
                        progress=lambda done, summary, bar=bar: bar(done, _note(summary)),  # type: ignore[misc]
                    )
    except (ValueError, ArithmeticError) as error:
        print(f"thick evaluate: {error}", file=sys.stderr)
        return 2
    for result in results.values():
        if options.within and result["success_rate"] is not None:
            result["success_within"] = success_within(result["episodes"], options.within)
    table = Table(title=f"{task}, {options.episodes} episodes, seeds from {options.seed}")
    within = [f"within {steps}" for steps in options.within]
    for heading in ("method", "success", *within, "return", "length", "context changes"):
        table.add_column(heading)
    for method, result in results.items():
        early = result.get("success_within", {})
        table.add_row(
            method,
            _percent(result["success_rate"]),
            *(_percent(early.get(str(steps))) for steps in options.within),
            f"{result['mean_return']:.3f}",
            f"{result['mean_length']:.1f}",
            _percent(result.get("context_change")),
        )
    Console().print(table)
    if any(result.get("events") for result in results.values()):
        Console().print(_alignment(results))
    content = {
        "task": task,
        "env_options": env_options,
        "seed": options.seed,
        "episodes": options.episodes,
        "max_steps": options.max_steps or None,
        "planner": changes,
        "methods": results,
    }
    kept = options.model / "results.json" if (options.model / "config.yaml").is_file() else None
    failed = False
    for path in (kept, options.json):
        if path is None:
            continue
        try:
            write_atomically(path, json.dumps(content, indent=1).encode())
        except OSError as error:
            failed = True
            print(f"thick evaluate: not written: {error}", file=sys.stderr)
        else:
            print(f"kept in {path}")
    return 1 if failed else 0


def own_methods(agent: Agent, changes: Mapping[str, Any]) -> list[str]:
    """What is measured where no method is named: what the model acts by, and chance.

    Args:
        agent: of the model.
        changes: of its planner; a method among them is the one to measure.

    Raises:
        ValueError: a setting is not the planner's, or the model has not what it asks for.
    """
    method = agent.settings(changes).method
    if "method" in changes or method == "policy":
        return [method, "random"]
    return [*(name for name in ("hierarchical", "flat") if agent.has(name)), "random"]


def success_within(episodes: Sequence[dict[str, Any]], limits: Sequence[int]) -> dict[str, float]:
    """The share of episodes that succeeded in so many steps or fewer, by the number of steps.

    Args:
        episodes: of :func:`thick.training.evaluate.evaluate_agent`, not empty.
        limits: numbers of steps.
    """
    return {
        str(limit): sum(bool(e["success"]) and e["length"] <= limit for e in episodes) / len(episodes)
        for limit in limits
    }


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _note(summary: dict[str, Any]) -> str:
    """What a progress bar says of the episodes so far."""
    rate = summary["success_rate"]
    return f"return {summary['mean_return']:.2f}" if rate is None else f"success {rate:.1%}"


def _alignment(results: dict[str, dict[str, Any]]) -> Table:
    """Context changes against the environment's events, a row for each method that has contexts."""
    from rich.table import Table

    names = sorted({name for result in results.values() for name in result.get("events", {})})
    table = Table(title="context changes against the environment's events")
    for heading in ("method", "share of steps", "precision", *(f"recall of {name}" for name in names)):
        table.add_column(heading)
    for method, result in results.items():
        if "events" in result:
            counts = [result["events"].get(name) for name in names]
            recalls = ["-" if c is None else f"{c['recall']:.1%} of {c['count']}" for c in counts]
            table.add_row(method, f"{result['context_change']:.1%}", f"{result['precision']:.1%}", *recalls)
    return table


command = Command("evaluate", "measure a trained model by planning on unseen seeds", run)
