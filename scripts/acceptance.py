"""Every learner on every kind of task by the commands that people type: python scripts/acceptance.py [--updates 200]

For each pair: ``thick train`` in one go; the same, stopped half-way and resumed, whose tensors must be the same
numbers; ``thick evaluate``; ``thick export``. Then ``thick serve`` on all that was exported, and ``thick drive`` with
every method that a model claims. Prints a table; ends with 1 if anything failed. What is there already is not made
again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from clients.demo import service

LEARNERS = ("planet", "dreamer", "thick-planet", "thick-dreamer", "plan2explore", "director")
TASKS = {
    "minigrid": ("minigrid:MiniGrid-DoorKey-6x6-v0+map", ["--preset", "tasks/doorkey"]),
    "dm_control": ("dm_control:cartpole-swingup", ["--preset", "tasks/cartpole"]),
    "pinpad": ("pinpad:three", ["--preset", "tasks/pinpad"]),
}
THICK = [sys.executable, "-m", "thick"]


def main() -> int:
    """Run what is missing, and print the table."""
    options = _arguments()
    folder: Path = options.folder
    rows = []
    for task in options.task:
        for learner in options.learner:
            print(f"{time.strftime('%H:%M:%S')} {learner} on {task}", flush=True)
            rows.append(trained(folder, learner, task, options.updates, options.prefill))
    for row, driven in zip(rows, served(folder, rows), strict=True):
        row |= driven
    columns = ("learner", "task", "train", "resume", "evaluate", "export", "drive")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(column, "–")) for column in columns) + " |")
    (folder / "table.json").write_text(json.dumps(rows, indent=1))
    return int(any("FAILED" in str(value) for row in rows for value in row.values()))


def trained(folder: Path, learner: str, task: str, updates: int, prefill: int) -> dict[str, Any]:
    """One learner on one task, up to its export."""
    env, presets = TASKS[task]
    name = f"{learner}-{task}".replace("_", "-")
    whole, parts = folder / name, folder / f"{name}-resumed"
    row: dict[str, Any] = {"learner": learner, "task": task, "name": name}
    train = ["train", "--preset", learner, "--preset", "small", *presets, "--env", env]
    train += ["--updates", str(updates), "--data.prefill", str(prefill), "--name", name]
    row["train"] = _run(folder, *train, "--run", whole, unless=whole / "checkpoints/latest")
    half = str(updates // 2)
    if not (parts / "checkpoints/latest").exists():
        _run(folder, *train, "--stop", half, "--run", parts)
    row["resume"] = _run(
        folder, "train", "--run", parts, "--resume", "--stop", str(updates), unless=parts / "done"
    )
    if row["resume"] != "FAILED":
        (parts / "done").touch()
        row["resume"] = _same(whole, parts, updates)
    results = folder / f"{name}.json"
    evaluate = ["evaluate", whole, "--episodes", "1", "--max-steps", "30", "--json", results]
    row["evaluate"] = _run(folder, *evaluate, unless=results)
    row["export"] = _run(folder, "export", whole, "--out", folder / "models", unless=folder / "models" / name)
    return row


def served(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every exported model, driven over HTTP by every method that it claims."""
    found = []
    with service(folder / "models", folder / "serve.log") as client:
        there = {model.name for model in client.models()}
        for row in rows:
            model = client.model(row["name"]) if row["name"] in there else None
            if model is None or model.state != "ready":
                found.append({"drive": f"FAILED ({model.reason if model else 'not served'})"})
                continue
            driven = [
                f"{method} {_drive(folder, client.connection.url, row['name'], method)}"
                for method in model.methods
            ]
            found.append({"drive": f"{', '.join(driven)} ({model.backend})"})
    return found


def _drive(folder: Path, url: str, name: str, method: str) -> str:
    command = [
        "drive",
        "--url",
        url,
        "--model",
        name,
        "--method",
        method,
        "--episodes",
        "1",
        "--max-steps",
        "5",
    ]
    return _run(folder, *command)


def _run(folder: Path, *words: Any, unless: Path | None = None) -> str:
    """A command; its output goes to ``commands.log``."""
    if unless is not None and unless.exists():
        return "ok"
    began = time.monotonic()
    with open(folder / "commands.log", "a") as log:
        log.write(f"$ thick {' '.join(map(str, words))}\n")
        log.flush()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        code = subprocess.call(
            [*THICK, *map(str, words)], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    return f"ok {time.monotonic() - began:.0f} s" if code == 0 else "FAILED"


def _same(whole: Path, parts: Path, updates: int) -> str:
    one, other = (
        load_file(run / "checkpoints" / f"{updates:09d}" / "state.safetensors") for run in (whole, parts)
    )
    different = [name for name in one if not torch.equal(one[name], other[name])]
    return (
        f"FAILED ({len(different)} of {len(one)} tensors differ)"
        if different
        else f"exact, {len(one)} tensors"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--learner", nargs="+", choices=LEARNERS, default=list(LEARNERS), metavar="NAME")
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="NAME")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--prefill", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=Path("runs/acceptance"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    sys.exit(main())
