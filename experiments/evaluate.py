"""Experiment 1: whole episodes on held-out corridors, by every planner, into a CSV that figures are drawn from.

    python experiments/evaluate.py runs/horizon/* --doors 1 2 3 4 --episodes 20 --out experiments/results/horizon.csv

A row that is there already is not made again. The native runtime plans.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from thick.agent import Agent
from thick.commands.export import export_run
from thick.configuration import differences
from thick.files import write_atomically
from thick.models.config import ModelConfig
from thick.planning.settings import PlannerSettings
from thick.runtimes.native.agents import load_agent
from thick.training.config import TrainConfig, load_config, merge
from thick.training.evaluate import evaluate_agent

FIELDS = (
    "experiment", "configuration", "digest", "learner", "seed", "updates", "parameters", "data", "commit", "processor",
    "task", "env_options", "planner", "settings", "imagined_steps", "first_seed", "episodes", "successes", "steps",
    "ms_per_step",
)  # fmt: skip
KEY = ("digest", "seed", "updates", "task", "env_options", "planner", "settings", "first_seed", "episodes")
"""what makes a row another one"""


def main() -> None:
    """Evaluate what is not in the CSV yet; each row is written as soon as it is known."""
    options = _arguments()
    planners = planner_settings(options.planners_file)
    rows = read_rows(options.out)
    known = {tuple(row[key] for key in KEY) for row in rows}
    for doors in options.doors:
        for run in options.run:
            config, agent, updates, parameters = native(run)
            for name in options.planner or planners:
                kind, settings = planners[name]
                if not fits(kind, config.model):
                    continue
                env_options = {
                    key: value
                    for key, value in config.env_options.items()
                    if key not in ("exploring_starts", "max_steps")
                } | {"split": "test", "max_steps": options.steps_a_room * (doors + 1)}
                if options.exploring_starts:
                    env_options["exploring_starts"] = True
                row = {
                    "experiment": "horizon",
                    "configuration": options.configuration,
                    "digest": digest(config),
                    "learner": learner(config),
                    "seed": str(config.seed),
                    "updates": str(updates),
                    "parameters": str(parameters),
                    "data": str(config.data.dataset),
                    "commit": commit(),
                    "processor": processor(),
                    "task": config.env.replace("corridor-2", f"corridor-{doors}"),
                    "env_options": json.dumps(env_options, sort_keys=True),
                    "planner": name,
                    "settings": json.dumps(settings, sort_keys=True),
                    "first_seed": str(options.first_seed),
                    "episodes": str(options.episodes),
                }
                if tuple(row[key] for key in KEY) in known:
                    continue
                row |= played(agent, settings, config, row["task"], env_options, options)
                rows.append(row)
                write_rows(options.out, rows)
                print(
                    row["task"],
                    run,
                    name,
                    f"{row['successes']}/{row['episodes']}",
                    f"{row['ms_per_step']} ms",
                    flush=True,
                )


def fits(kind: str, model: ModelConfig) -> bool:
    """Whether a planner for that kind of model goes with this one; where it names several, for all of them."""
    has = {"any", model.kind} | ({"actor"} if model.behaviour != "none" else set())
    return set(kind.split()) <= has


def played(
    agent: Agent[Any],
    settings: dict[str, Any] | None,
    config: TrainConfig,
    task: str,
    env_options: dict[str, Any],
    options: argparse.Namespace,
) -> dict[str, str]:
    """What came of the episodes of one row."""
    plan = None if settings is None else agent.settings(settings)
    began = time.perf_counter()
    found = evaluate_agent(
        None if plan is None else agent,
        task,
        settings=plan,
        episodes=options.episodes,
        seed=options.first_seed,
        parallel=min(options.parallel, options.episodes),
        options=env_options,
    )
    took = time.perf_counter() - began
    episodes = found["episodes"]
    steps = [each["length"] if each["success"] else -each["length"] for each in episodes]
    return {
        "imagined_steps": str(0 if plan is None else imagined(plan, agent.actions.size)),
        "successes": str(sum(step > 0 for step in steps)),
        "steps": " ".join(map(str, steps)),
        "ms_per_step": f"{1e3 * took / sum(map(abs, steps)):.2f}",
    }


def imagined(plan: PlannerSettings, actions: int) -> int:
    """Low-level steps that an act imagines; a simulation of the low-level tree imagines one of each action."""
    if plan.method == "policy":
        return 0
    if plan.low == "mcts":
        return max(1, plan.samples // 10) * plan.iterations * actions
    return plan.samples * plan.iterations * plan.horizon


def planner_settings(path: Path) -> dict[str, tuple[str, dict[str, Any] | None]]:
    """Kind of model and settings by name, what they build on included; None plays at random."""
    content = yaml.safe_load(path.read_text())
    found: dict[str, tuple[str, dict[str, Any] | None]] = {}
    for name, entry in content.items():
        base = found[entry["as"]][1] if "as" in entry else {}
        own = entry["settings"]
        found[name] = (entry["model"], None if own is None else {**(base or {}), **own})
    return found


def native(run: Path) -> tuple[TrainConfig, Agent[Any], int, int]:
    """The configuration of a run or of an exported entry, its agent in the native runtime, the updates it had, and the
    number of its weights."""
    with tempfile.TemporaryDirectory() as folder:
        exported = (run / "manifest.json").is_file()
        agent = load_agent(run if exported else export_run(run, out=Path(folder), name="model", version="1"))
        manifest = agent.manifest
        assert manifest is not None
        config = (
            merge(TrainConfig(), manifest.configuration) if exported else load_config(run / "config.yaml")
        )
        return config, agent, int(manifest.provenance["updates"]), manifest.weights.bytes // 4


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV; none where it is not there."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """All rows, whole or not at all."""
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())


def learner(config: TrainConfig) -> str:
    """Its name; without values of jumps (ψ = 1), a THICK Dreamer is Dreamer on a C-RSSM."""
    if config.learner == "thick-dreamer" and config.behaviour.long_weight == 1:
        return "crssm-dreamer"
    return config.learner


def digest(config: TrainConfig) -> str:
    """Of what a run's configuration says other than the defaults, so that a field that is added later changes nothing;
    without what differs from seed to seed, and without where it was computed and its data lie."""
    content = differences(TrainConfig(), config)
    for name in ("seed", "name", "threads", "device", "data.dataset"):
        content.pop(name, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def commit() -> str:
    """Of the working copy, short; ``+changes`` where tracked files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no", "--", "..", ":!results", ":!../docs"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def processor() -> str:
    """Its name, and how many cores this process may use."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, nargs="+", help="folders of runs, or of exported entries")
    parser.add_argument("--doors", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--planner", nargs="+", default=[], help="names (default: all that fit the model)")
    parser.add_argument("--planners-file", type=Path, default=Path(__file__).with_name("planners.yaml"))
    parser.add_argument("--configuration", default="experiments/corridor.yaml", help="its name in the rows")
    parser.add_argument(
        "--steps-a-room", type=int, default=30, help="limit of an episode for each of its N + 1 rooms"
    )
    parser.add_argument("--exploring-starts", action="store_true", help="start anywhere along the corridor")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "horizon.csv")
    options = parser.parse_args()
    known = planner_settings(options.planners_file)
    for name in options.planner:
        if name not in known:
            parser.error(f"--planner {name}: expected some of {', '.join(known)}")
    return options


if __name__ == "__main__":
    main()
