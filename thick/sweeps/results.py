"""The results of a sweep in tables whose rows name configuration, seed, commit and data.

``results.csv`` is long: a row for every number. What commands wrote as CSV into their ``{out}`` is joined into one
``STEP.csv`` for each step, with the same columns before their own.
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from thick.data.replay import ReplayRing
from thick.files import write_atomically
from thick.sweeps.definition import Run, SweepRuns
from thick.sweeps.state import RunState, wanted_state
from thick.training.config import TrainConfig

RESULTS = "results.csv"


def gather(plan: SweepRuns) -> list[Path]:
    """Write the tables of everything that is finished; the files written."""
    rows: list[dict[str, Any]] = []
    tables: dict[str, list[dict[str, Any]]] = {}
    for run in plan.runs:
        state = wanted_state(run)
        if not state.trained:
            continue
        who = identity(run, state)
        for step, metric, value in _numbers(run, state):
            rows.append({**who, "step": step, "metric": metric, "value": value})
        for step, content in _tables(run, state):
            tables.setdefault(step.partition("/")[0], []).append({**who, "step": step, **content})
    written = []
    targets = [plan.folder / RESULTS, *([Path(plan.sweep.results)] if plan.sweep.results else [])]
    for target in targets if rows else ():
        written.append(_write(target, rows))
        written += [_write(target.with_name(_beside(target, step)), table) for step, table in tables.items()]
    return written


def identity(run: Run, state: RunState) -> dict[str, Any]:
    """What identifies a run: place in the grid, configuration without seed (a digest), seed, commit, data."""
    assert run.config is not None
    return {
        "run": run.name,
        **{axis: label for axis, label in run.axes.items() if axis != "seed"},
        "seed": run.config.seed,
        "config": state.digest,
        "commit": state.commit,
        "data": data_of(run.config, run.directory),
    }


def data_of(config: TrainConfig, directory: Path) -> str:
    """What a run learned from, in words that differ where the data does."""
    parts = []
    if config.data.dataset is not None:
        path = Path(config.data.dataset)
        parts.append(f"{path.name}:{_checksum(path, (path / 'replay.json').stat().st_mtime_ns)}")
    else:
        parts.append(f"{config.data.prefill_policy} {config.data.prefill}")
    try:
        latest = (directory / "checkpoints" / "latest").read_text().strip()
        state = json.loads((directory / "checkpoints" / latest / "state.json").read_text())
    except OSError:
        return " + ".join(parts)
    kept = state["experience"]
    if kept["checksum"] is not None:
        parts[0] += f":{kept['checksum']:08x}"
    if config.data.policy == "agent":
        parts.append(f"own {state['env_steps']}")
    return " + ".join(parts)


@functools.cache
def _checksum(path: Path, changed: int) -> str:
    """Of a data set; ``changed`` is when it was written."""
    return f"{ReplayRing.open(path).checksum():08x}"


def _numbers(run: Run, state: RunState) -> Iterator[tuple[str, str, float]]:
    """Step, metric and value of everything that a run ended with."""
    last: dict[str, Any] = {}
    try:
        lines = (run.directory / "metrics.jsonl").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:  # each kind of line once, the last of its kind
        last |= {
            key: value for key, value in json.loads(line).items() if key not in ("time", "data", "resumed")
        }
    yield from (("train", name, value) for name, value in _flat(last))
    for step in state.done:
        for path in sorted((run.directory / "after" / step).glob("*.json")):
            try:
                content = json.loads(path.read_text())
            except ValueError:
                continue
            yield from ((step, name, value) for name, value in _flat(content))


def _flat(content: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Numbers in nested mappings by their path; lists (single episodes) are left out."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _flat(value, f"{path}/{name}" if path else str(name))
    elif isinstance(content, bool | int | float):
        yield path, float(content)


def _tables(run: Run, state: RunState) -> Iterator[tuple[str, dict[str, Any]]]:
    for step in state.done:
        for path in sorted((run.directory / "after" / step).glob("*.csv")):
            with open(path, newline="") as file:
                for row in csv.DictReader(file):
                    yield step, row


def _beside(target: Path, step: str) -> str:
    """``results.csv`` gets ``STEP.csv`` as its neighbour, ``corridor.csv`` has ``corridor-STEP.csv``."""
    return f"{step}.csv" if target.name == RESULTS else f"{target.stem}-{step}.csv"


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
    return path
