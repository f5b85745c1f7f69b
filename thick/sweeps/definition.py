"""What a sweep file says: a grid of runs, and the commands before and after them.

The file is YAML with the fields of :class:`Sweep`. Each combination of the grid's entries is one run. It has the
presets in ``base``, those of the entries, ``threads: 1``, the fields in ``config``, and those of the entries.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from thick.configuration import RECORD, build, merge, read_yaml_file
from thick.nearest import did_you_mean
from thick.training.config import TrainConfig, check_stop, load_config

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.-]*)\}")
_UNFIT = re.compile(r"[^A-Za-z0-9._+=-]+")


@dataclass(frozen=True)
class Sweep:
    """A sweep file."""

    __pydantic_config__: ClassVar = RECORD
    name: str = ""
    """what it is called (default: the file's name)"""
    description: str = ""
    """for readers"""
    folder: str = ""
    """where the runs live (default: runs/NAME)"""
    results: str = ""
    """a CSV file that gets the results too, such as one to be committed (they are always in the folder)"""
    base: tuple[str, ...] = ()
    """presets of every run, the later ones win"""
    config: dict[str, Any] = field(default_factory=dict)
    """fields of every run's configuration"""
    grid: dict[str, Any] = field(default_factory=dict)
    """by axis: a list of values of the field that has the axis's name, or entries by their labels, each with fields and
    presets (base)"""
    exclude: tuple[dict[str, Any], ...] = ()
    """combinations that are left out, by axis and label or value"""
    before: dict[str, Any] = field(default_factory=dict)
    """commands that come before all runs, by name, one after another; {before.NAME} is what an earlier one had as
    {out}"""
    after: dict[str, Any] = field(default_factory=dict)
    """commands that come after every run's training, by name"""


@dataclass(frozen=True)
class Step:
    """A command of a sweep file; a lone string stands for one with nothing else."""

    __pydantic_config__: ClassVar = RECORD
    command: str = ""
    """with placeholders: {run}, {name}, {folder}, {out}, the axes, and fields of the configuration such as {env}"""
    grid: dict[str, list[Any]] = field(default_factory=dict)
    """placeholders of its own: the command is run with each combination of their values"""
    only: dict[str, Any] = field(default_factory=dict)
    """the runs that it is for, by axis and label or value (one, or a list)"""


@dataclass(frozen=True)
class Run:
    """One run of a sweep."""

    name: str
    """of its folder in the sweep's"""
    directory: Path
    axes: dict[str, str]
    """its place in the grid: label by axis"""
    config: TrainConfig | None
    """None where there is nothing to train: the commands before all runs"""
    steps: dict[str, str]
    """commands by name, in their order; ``STEP`` or ``STEP/LABELS``"""


@dataclass(frozen=True)
class SweepRuns:
    """A sweep file read to the end."""

    sweep: Sweep
    file: Path
    folder: Path
    before: list[list[Run]]
    """the commands that come before all runs: steps, one after another, each with the commands of its own grid"""
    runs: list[Run]

    @property
    def stages(self) -> list[list[Run]]:
        """All there is to do: what is in one stage needs that of the stages before it."""
        return [*self.before, self.runs]


def read_sweep(path: Path) -> SweepRuns:
    """Read and check a sweep file: every configuration is built, every placeholder looked up.

    Raises:
        ValueError: in one line, what does not fit, with the nearest right name.
        OSError: the file cannot be read.
    """
    try:
        return _plan(path, build(Sweep, read_yaml_file(path)))
    except ValueError as error:
        raise ValueError(f"{path.name}: {str(error).removeprefix(f'{path}: ')}") from error


def _plan(path: Path, sweep: Sweep) -> SweepRuns:
    if not (sweep.base or sweep.config or sweep.grid):
        raise ValueError("no run is described: expected base, config or grid")
    name = sweep.name or path.stem
    folder = Path(sweep.folder or f"runs/{name}")
    axes = {axis: _entries(axis, content) for axis, content in sweep.grid.items()}
    _check_exclude(sweep.exclude, axes)
    runs = []
    for labels in itertools.product(*axes.values()):
        place = dict(zip(axes, labels, strict=True))
        if any(_fits(place, axes, each) for each in sweep.exclude):
            continue
        runs.append(_run(sweep, folder, axes, place))
    if not runs:
        raise ValueError("no run is left: exclude names every combination of the grid")
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise ValueError(
            f"two runs would be called {twice!r}: give the entries of the grid labels that differ"
        )
    before: list[list[Run]] = []
    known = {"folder": str(folder)}
    for step, content in sweep.before.items():
        before.append([])
        for label, command in _commands(f"before.{step}", step, content, known, out=folder / "before"):
            job = label.replace("/", "-")
            before[-1].append(Run(job, folder / "before" / f"{job}.job", {}, None, {label: command}))
        known |= _made_by(step, folder)
    return SweepRuns(sweep, path, folder, before, runs)


def _run(sweep: Sweep, folder: Path, axes: Mapping[str, dict[str, _Entry]], place: dict[str, str]) -> Run:
    name = "-".join(place.values()) or "run"
    directory = folder / name
    known = {**place, "folder": str(folder), "name": name, "run": str(directory)}
    for step in sweep.before:
        known |= _made_by(step, folder)
    entries = [axes[axis][label] for axis, label in place.items()]
    presets = [*sweep.base, *(preset for entry in entries for preset in entry.base)]
    config = merge(load_config(*presets), {"threads": 1})
    changes = [("config", sweep.config), *((f"grid.{e.where}", e.fields) for e in entries)]
    for where, fields in changes:
        try:
            config = merge(config, _filled(fields, lambda text, at=where: _fill(text, known, at)))  # type: ignore[misc]
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    config = merge(config, {"name": _model_name(name)})
    try:
        check_stop(config)
    except ValueError as error:
        raise ValueError(f"run {name}: {error}") from error
    fields = {
        axis: entry.value for (axis, _), entry in zip(place.items(), entries, strict=True) if entry.listed
    }
    known = {**_fields_of(config), **known, **{axis: str(value) for axis, value in fields.items()}}
    steps: dict[str, str] = {}
    for step, content in sweep.after.items():
        if _fits(place, axes, _step(f"after.{step}", content).only, f"after.{step}.only"):
            steps |= dict(_commands(f"after.{step}", step, content, known, out=directory / "after"))
    return Run(name, directory, place, config, steps)


# -- the grid ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """One entry of an axis."""

    where: str
    fields: dict[str, Any]
    base: tuple[str, ...]
    value: Any
    listed: bool


def _entries(axis: str, content: Any) -> dict[str, _Entry]:
    """The entries of an axis by label."""
    where = f"grid.{axis}"
    if not isinstance(content, list | dict) or not content:
        raise ValueError(f"{where}: expected a list of values or entries by label, got {content!r}")
    if isinstance(content, list):
        short = axis.rpartition(".")[2]
        labels = [_label(f"{short}{value}") for value in content]
        twice = [label for place, label in enumerate(labels) if label in labels[:place]]
        if twice:
            raise ValueError(f"{where}: {twice[0]!r} is named twice")
        return {
            label: _Entry(axis, _nested(axis, value), (), value, True)
            for label, value in zip(labels, content, strict=True)
        }
    entries = {}
    for label, fields in content.items():
        fields = dict(_mapping(fields, f"{where}.{label}"))
        base = fields.pop("base", [])
        base = [base] if isinstance(base, str) else base
        entries[_label(str(label))] = _Entry(f"{axis}.{label}", fields, tuple(base), label, False)
    return entries


def _fits(
    place: Mapping[str, str],
    axes: Mapping[str, dict[str, _Entry]],
    wanted: Mapping[str, Any],
    where: str = "exclude",
) -> bool:
    """Whether a place in the grid is among those wanted, by label or by value."""
    for axis, labels in wanted.items():
        if axis not in axes:
            raise ValueError(f"{where}: the grid has no axis {axis!r}{did_you_mean(axis, axes)}")
        entry = axes[axis][place[axis]]
        choices = labels if isinstance(labels, list) else [labels]
        if place[axis] not in map(str, choices) and entry.value not in choices:
            return False
    return True


def _check_exclude(exclude: tuple[dict[str, Any], ...], axes: Mapping[str, dict[str, _Entry]]) -> None:
    for each in exclude:
        for axis, labels in each.items():
            if axis not in axes:
                raise ValueError(f"exclude: the grid has no axis {axis!r}{did_you_mean(axis, axes)}")
            for label in labels if isinstance(labels, list) else [labels]:
                if str(label) not in axes[axis] and all(label != e.value for e in axes[axis].values()):
                    near = did_you_mean(str(label), axes[axis])
                    raise ValueError(
                        f"exclude.{axis}: no entry {label!r}{near} (there are {', '.join(axes[axis])})"
                    )


def _nested(name: str, value: Any) -> dict[str, Any]:
    """``a.b``: value as ``{a: {b: value}}``."""
    for key in reversed(name.split(".")):
        value = {key: value}
    return dict(value)


def _made_by(step: str, folder: Path) -> dict[str, str]:
    """The placeholder that stands for what a command before all runs has made."""
    return {f"before.{step}": str(folder / "before" / _label(step))}


def _label(text: str) -> str:
    """A label as part of a folder's name."""
    return _UNFIT.sub("_", text).strip("_.") or "_"


def _model_name(name: str) -> str:
    """A run's name as one of models, which are lower-case."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:100] or "run"


# -- commands and placeholders -----------------------------------------------------------------------------------


def _step(where: str, content: Any) -> Step:
    step = build(Step, {"command": content} if isinstance(content, str) else _mapping(content, where), where)
    if not step.command.strip():
        raise ValueError(f"{where}: expected a command, got {content!r}")
    return step


def _commands(
    where: str, name: str, content: Any, known: Mapping[str, str], *, out: Path
) -> Iterator[tuple[str, str]]:
    """A step's commands with their names, one for each combination of its own grid."""
    step = _step(where, content)
    for values in itertools.product(*step.grid.values()):
        own = dict(zip(step.grid, map(str, values), strict=True))
        label = "/".join(
            [_label(name), *(["-".join(_label(f"{k}={v}") for k, v in own.items())] if own else [])]
        )
        folder = str(out / label)
        yield label, _fill(step.command, {**known, **own, "out": folder}, where)


def _fill(text: str, known: Mapping[str, str], where: str) -> str:
    """A text with its placeholders replaced; braces around anything but a name stay."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in known:
            near = did_you_mean(match[1], known)
            short = [name for name in known if "." not in name]
            raise ValueError(f"{where}: no placeholder {match[0]}{near} (there are {', '.join(short)})")
        return known[match[1]]

    return _PLACEHOLDER.sub(value, text)


def _filled(content: Any, fill: Callable[[str], str]) -> Any:
    """Plain values with the placeholders in their texts replaced."""
    if isinstance(content, Mapping):
        return {key: _filled(value, fill) for key, value in content.items()}
    if isinstance(content, list):
        return [_filled(value, fill) for value in content]
    return fill(content) if isinstance(content, str) else content


def _fields_of(config: TrainConfig) -> dict[str, str]:
    """Fields of a configuration that commands may name."""
    return {
        name: str(getattr(config, name))
        for name in ("env", "learner", "seed", "updates", "threads", "device")
    }


def _mapping(content: Any, where: str) -> Mapping[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: expected keys with values, got {content!r}")
    return content
