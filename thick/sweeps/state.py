"""What is known of a run of a sweep: one small file in its folder, which the process that works on it writes."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from thick.configuration import build, differences, to_dict
from thick.files import write_atomically
from thick.sweeps.definition import Run
from thick.training.checkpoint import has_checkpoint
from thick.training.config import TrainConfig, load_config
from thick.training.folder import CONFIG

STATE = "sweep.json"
"""in a run's folder"""
LOG = "sweep.log"
"""what its processes said"""

Status = Literal["waiting", "running", "stopped", "failed", "done"]


@dataclass(frozen=True)
class RunState:
    """A run's state as ``sweep.json`` keeps it."""

    name: str
    axes: dict[str, str] = field(default_factory=dict)
    status: Status = "waiting"
    config: dict[str, Any] | None = None
    """full configuration; None where nothing is trained"""
    steps: dict[str, str] = field(default_factory=dict)
    """commands that are to be run, by name"""
    trained: bool = False
    done: dict[str, str] = field(default_factory=dict)
    """commands that have been run to their end, by name, as they were"""
    commit: str = ""
    """of the code that trained it"""
    error: str = ""
    """why it failed"""
    threads: int = 1

    @property
    def pending(self) -> list[str]:
        """Commands that have not been run as they are now."""
        return [name for name, command in self.steps.items() if self.done.get(name) != command]

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return (self.trained or self.config is None) and not self.pending

    @property
    def digest(self) -> str:
        """Of the configuration without seed and name: the same for all seeds of one setting."""
        content = {k: v for k, v in (self.config or {}).items() if k not in ("seed", "name")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def read_state(directory: Path) -> RunState | None:
    """The state in a run's folder; None where none was begun.

    Raises:
        ValueError: the file is no such state.
    """
    try:
        content = json.loads((directory / STATE).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{directory / STATE} is damaged ({error}); remove the folder to begin that run anew"
        ) from error
    return build(RunState, content, str(directory / STATE))


def write_state(directory: Path, state: RunState) -> None:
    """Write it; a reader never sees half of it."""
    write_atomically(directory / STATE, json.dumps(asdict(state), indent=1).encode())


def wanted_state(run: Run) -> RunState:
    """What is known of a run, with the commands that the sweep file names now.

    Raises:
        ValueError: the folder holds a run of another configuration.
    """
    found = read_state(run.directory) or RunState(run.name)
    if (
        run.config is not None
        and (run.directory / CONFIG).is_file()
        and has_checkpoint(run.directory / "checkpoints")
    ):
        _check_same(run, run.config)
    content = asdict(found) | {"axes": run.axes, "steps": run.steps}
    content["config"] = None if run.config is None else to_dict(run.config)
    content["threads"] = 1 if run.config is None else run.config.threads or 1
    before = found.config or {}
    if any(before.get(name) != (content["config"] or {}).get(name) for name in ("updates", "stop")):
        content["trained"] = False  # it goes on to another end, and is measured again there
        content["done"] = {}
    return build(RunState, content)


def _check_same(run: Run, config: TrainConfig) -> None:
    changed = differences(load_config(run.directory / CONFIG), config)
    changed = {name: value for name, value in changed.items() if name not in ("updates", "stop", "threads")}
    if changed:
        name, value = next(iter(changed.items()))
        raise ValueError(
            f"{run.name}: {run.directory} holds a run with another {name} than {value!r}: name another folder in the "
            "sweep file, or remove that run"
        )


@functools.cache
def commit() -> str:
    """The commit of the code, with ``+changes`` where files differ from it; empty outside a checkout."""
    place = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(place), *words], capture_output=True, text=True, check=True
        ).stdout

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(place.parent)).strip()
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
