"""What a training run is made of: documented, frozen records; presets are YAML files beside this one.

A preset names only what differs from the defaults. ``--field value`` overrides it on the command line.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import textwrap
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from thick.behaviours.config import BehaviourConfig
from thick.models.config import ModelConfig

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class DataConfig:
    """Where experience comes from."""

    policy: Literal["random", "scripted", "agent"] = "random"
    """who acts after the prefill: nobody but the prefill (random, scripted) or the agent being trained"""
    prefill: int = 5000
    """steps collected before the first update"""
    prefill_policy: Literal["random", "scripted"] = "random"
    """who collects them"""
    policy_options: dict[str, Any] = field(default_factory=dict)
    """options of the scripted policy"""
    dataset: str | None = None
    """folder of 'thick collect' to learn from in place of a prefill"""
    streams: int = 8
    """environments stepped side by side"""
    capacity: int = 1_000_000
    """steps kept"""
    on_disk: bool = False
    """memory-map the ring in the run's folder"""
    env_steps_per_update: float = 0.0
    """steps the agent takes for every update (policy: agent)"""
    exploration: float = 0.3
    """noise of the agent while it collects: standard deviation (continuous) or probability of a random action"""
    planner: dict[str, Any] = field(default_factory=dict)
    """planner settings of the agent while it collects"""


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam (eps 1e-5) with clipped gradients and decoupled weight decay."""

    lr: float = 1e-4
    """learning rate of the low level"""
    high_lr: float = 1e-4
    """learning rate of the high level"""
    eps: float = 1e-5
    """Adam's epsilon"""
    clip: float = 100.0
    """largest norm of a gradient"""
    weight_decay: float = 1e-6
    """share of every weight that is lost in a step"""
    warmup: int = 0
    """updates over which the learning rates rise from zero"""
    decay: float = 1.0
    """share of the learning rates that is left at the end of the run, falling linearly"""

    def rate(self, lr: float, update: int, updates: int) -> float:
        """A learning rate at an update of a run of ``updates``."""
        rising = min(1.0, (update + 1) / max(self.warmup, 1))
        return lr * rising * (1 - (1 - self.decay) * min(update / max(updates, 1), 1.0))


@dataclass(frozen=True)
class Schedule:
    """A weight over time: constant until ``ramp_from``, then geometric to ``final`` at ``ramp_to``."""

    start: float = 1.0
    """weight in the beginning"""
    final: float = 1.0
    """weight in the end"""
    ramp_from: int = 0
    """update at which it begins to change"""
    ramp_to: int = 0
    """update from which on it stays"""

    def at(self, update: int) -> float:
        """The weight at an update."""
        if update >= self.ramp_to or self.start == self.final:
            return self.final
        if update <= self.ramp_from:
            return self.start
        share = (update - self.ramp_from) / (self.ramp_to - self.ramp_from)
        return float(self.start * (self.final / self.start) ** share)


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured during and after training."""

    every: int = 0
    """updates between evaluations by planning; 0: only at the end"""
    episodes: int = 20
    """episodes of an evaluation"""
    max_steps: int = 0
    """cut evaluation episodes here; 0: the environment's own limit"""
    alignment_every: int = 1000
    """updates between measurements of gates against the environment's events"""
    alignment_steps: int = 4000
    """steps of play on which that is measured"""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    env: str = "minigrid:MiniGrid-DoorKey-6x6-v0+map"
    """the task (see 'docs/environments.md')"""
    env_options: dict[str, Any] = field(default_factory=dict)
    """options of the environment"""
    name: str = "model"
    """name under which the model is exported"""
    description: str = ""
    """one sentence for the manifest"""
    seed: int = 0
    """seed of everything"""
    init: str | None = None
    """folder of a run, or model-repository entry, whose weights this run starts from (its sizes must be the same)"""
    init_high: bool = True
    """take the high level's weights too; otherwise it starts at random, and may have other sizes"""
    updates: int = 20_000
    """updates over which the schedules run"""
    stop: int = 0
    """stop at this update, before the schedules have run out; 0: at the last"""
    batch: int = 16
    """sequences of a batch"""
    length: int = 50
    """steps of a sequence"""
    freeze_low: bool = False
    """train the high level (and behaviour) alone, on a low level that is finished"""
    from_start: float = 0.0
    """share of the sequences that begin with their episode"""
    threads: int = 2
    """threads of torch on the CPU"""
    device: str = "cpu"
    """cpu or cuda"""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """of matrix products in training, where auto takes what a trial finds faster; weights and losses stay in fp32"""
    log_every: int = 100
    """updates between lines of the log"""
    checkpoint_every: int = 1000
    """updates between checkpoints"""
    model: ModelConfig = field(default_factory=ModelConfig)
    """sizes and losses"""
    data: DataConfig = field(default_factory=DataConfig)
    """experience"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """optimisation"""
    sparsity: Schedule = field(default_factory=Schedule)
    """β, the weight of open gates, over time"""
    kl: Schedule = field(default_factory=Schedule)
    """weight of both KLs over time: small at first, or z stays empty for long where observations are many symbols"""
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    """actor and critic"""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """measurements"""
    planner: dict[str, Any] = field(default_factory=dict)
    """planner defaults written into the exported manifest, and used for evaluation"""


def presets() -> list[str]:
    """Names of the presets in the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_config(source: str | Path, base: TrainConfig | None = None) -> TrainConfig:
    """A preset by name, or a YAML file by path.

    Raises:
        ValueError: no such preset, or a key or value that does not fit (naming the nearest right key).
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        path = PRESETS / f"{source}.yaml"
        if not path.is_file():
            near = difflib.get_close_matches(str(source), presets(), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no preset {str(source)!r}{hint} (there are {', '.join(presets())})")
    content = yaml.safe_load(path.read_text()) or {}
    return merge(base or TrainConfig(), content)


T = typing.TypeVar("T")


def merge(record: T, changes: dict[str, Any], path: str = "") -> T:
    """A frozen record with some fields replaced by plain YAML or JSON values, nested records included.

    Raises:
        ValueError: an unknown key (with the nearest right one) or a value of the wrong type.
    """
    hints = typing.get_type_hints(type(record))
    replaced: dict[str, Any] = {}
    for key, value in changes.items():
        where = f"{path}.{key}" if path else key
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1, cutoff=0.5)
            hint = f"; did you mean {(path + '.' if path else '') + near[0]!r}?" if near else ""
            raise ValueError(f"unknown key {where!r}{hint} (known here: {', '.join(hints)})")
        current = getattr(record, key)
        if dataclasses.is_dataclass(current) and isinstance(value, dict):
            replaced[key] = merge(current, value, where)
        else:
            replaced[key] = _checked(value, hints[key], where)
    return dataclasses.replace(record, **replaced)  # type: ignore[type-var]


def _checked(value: Any, hint: Any, where: str) -> Any:
    """``value`` in the field's type, or a ValueError that says what was expected."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in arguments:
            return value
    elif origin is dict:
        if isinstance(value, dict):
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(value)
    elif type(None) in arguments:
        others = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else _checked(value, others[0], where)
    elif hint is bool or isinstance(value, bool):
        if isinstance(value, bool) and hint is bool:
            return value
    elif hint is float:
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):  # YAML 1.1 reads 1e-4 as a string
            try:
                return float(value)
            except ValueError:
                raise ValueError(f"{where}: expected a number, got {value!r}") from None
    elif isinstance(value, hint):
        return value
    expected = " | ".join(map(repr, arguments)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise ValueError(f"{where}: expected {expected}, got {value!r}")


def override(config: TrainConfig, arguments: list[str]) -> TrainConfig:
    """A configuration with ``--field.name value`` arguments applied; values are read as YAML.

    Raises:
        ValueError: an argument that is no field, or a value that does not fit.
    """
    changes: dict[str, Any] = {}
    rest = [part for argument in arguments for part in _split(argument)]
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise ValueError(f"expected --FIELD VALUE, got {name!r} (fields: thick train --fields)")
        if not rest:
            raise ValueError(f"{name}: a value is missing")
        value = yaml.safe_load(rest.pop(0))
        place = changes
        *path, last = name[2:].replace("-", "_").split(".")
        for key in path:
            place = place.setdefault(key, {})
        place[last] = value
    return merge(config, changes)


def describe(record: Any, path: str = "") -> str:
    """Every field, one a line: name, value and meaning."""
    meanings = _meanings(type(record))
    lines = []
    for item in dataclasses.fields(record):
        value, name = getattr(record, item.name), path + item.name
        if dataclasses.is_dataclass(value):
            lines += ["", f"{name}: {meanings.get(item.name, '')}", describe(value, name + ".")]
        else:
            lines.append(f"  --{name} {value!r}".ljust(48) + f" {meanings.get(item.name, '')}")
    return "\n".join(lines)


def _split(argument: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith("--") and "=" in argument else [argument]


def _meanings(record: type) -> dict[str, str]:
    """The string under each field of a dataclass, read from its source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0].body  # type: ignore[attr-defined]
    found = {}
    for statement, following in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            found[statement.target.id] = " ".join(str(ast.literal_eval(following.value)).split())  # type: ignore[union-attr]
    return found


def to_dict(record: Any) -> dict[str, Any]:
    """A record as plain YAML or JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return plain(dataclasses.asdict(record))  # type: ignore[no-any-return]
