"""What a training run is made of: documented, frozen records, and the presets that set them.

A preset is a YAML file next to this one that names only what differs from the defaults. Presets compose: its ``base``
lists others that come before it, as do several names on the command line. ``--field value`` overrides any field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from thick.behaviours.config import BehaviourConfig, DirectorConfig, EnsembleConfig
from thick.configuration import (
    RECORD,
    Count,
    Index,
    Positive,
    Share,
    Weight,
    arguments,
    merge,
    read_yaml_file,
)
from thick.learners.schedules import Schedule
from thick.manifest import NAME
from thick.models.config import ModelConfig
from thick.nearest import did_you_mean

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class DataConfig:
    """Where experience comes from."""

    __pydantic_config__: ClassVar = RECORD
    policy: Literal["random", "scripted", "agent"] = "random"
    """who acts after the prefill: nobody but the prefill (random, scripted) or the agent being trained"""
    prefill: Index = 5000
    """steps collected before the first update"""
    prefill_policy: Literal["random", "scripted"] = "random"
    """who collects them"""
    policy_options: dict[str, Any] = field(default_factory=dict)
    """options of the scripted policy"""
    dataset: str | None = None
    """folder of 'thick collect' to learn from in place of a prefill"""
    streams: Count = 8
    """environments stepped side by side"""
    capacity: Count = 1_000_000
    """steps kept"""
    on_disk: bool = False
    """memory-map the ring in the run's folder"""
    env_steps_per_update: Weight = 0.0
    """steps the agent takes for every update (policy: agent)"""
    exploration: Weight = 0.3
    """noise of the agent while it collects: standard deviation (continuous) or probability of a random action"""
    planner: dict[str, Any] = field(default_factory=dict)
    """planner settings of the agent while it collects"""


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam (eps 1e-5) with clipped gradients and decoupled weight decay."""

    __pydantic_config__: ClassVar = RECORD
    lr: Weight = 1e-4
    """learning rate of the world model"""
    level_lr: Weight = 1e-4
    """learning rate of the levels above it"""
    eps: Positive = 1e-5
    """Adam's epsilon"""
    clip: Positive = 100.0
    """largest norm of a gradient"""
    weight_decay: Weight = 1e-6
    """share of every weight that is lost in a step"""
    warmup: Index = 0
    """updates over which the learning rates rise from zero"""
    decay: Share = 1.0
    """share of the learning rates that is left at the end of the run, falling linearly"""

    def rate(self, lr: float, update: int, updates: int) -> float:
        """A learning rate at an update of a run of ``updates``."""
        rising = min(1.0, (update + 1) / max(self.warmup, 1))
        return lr * rising * (1 - (1 - self.decay) * min(update / max(updates, 1), 1.0))


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured during and after training."""

    __pydantic_config__: ClassVar = RECORD
    every: Index = 0
    """updates between evaluations by planning; 0: only at the end"""
    episodes: Count = 20
    """episodes of an evaluation"""
    max_steps: Index = 0
    """cut evaluation episodes here; 0: the environment's own limit"""
    alignment_every: Index = 1000
    """updates between measurements of gates against the environment's events"""
    alignment_steps: Index = 4000
    """steps of play on which that is measured"""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    __pydantic_config__: ClassVar = RECORD
    env: str = "minigrid:MiniGrid-DoorKey-6x6-v0+map"
    """the task (see 'docs/environments.md')"""
    env_options: dict[str, Any] = field(default_factory=dict)
    """options of the environment"""
    learner: Literal["planet", "dreamer", "thick-planet", "thick-dreamer", "plan2explore", "director"] = (
        "thick-planet"
    )
    """which recipe learns (see 'docs/learners.md')"""
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")] = "model"
    """name under which the model is exported"""
    description: str = ""
    """one sentence for the manifest"""
    seed: Index = 0
    """seed of everything"""
    init: str | None = None
    """folder of a run, or model-repository entry, whose weights this run starts from (its sizes must be the same)"""
    init_levels: bool = True
    """take the levels' weights too; otherwise they start at random, and may have other sizes"""
    updates: Count = 20_000
    """updates over which the schedules run"""
    stop: Index = 0
    """stop at this update, before the schedules have run out, and so at most ``updates``; 0: at the last"""
    batch: Count = 16
    """sequences of a batch"""
    length: Count = 50
    """steps of a sequence"""
    freeze: tuple[str, ...] = ()
    """parts that keep the weights they begin with, such as [world] to train the levels above it alone"""
    from_start: Share = 0.0
    """share of the sequences that begin with their episode"""
    start_state: Literal["zero", "stored"] = "zero"
    """what sequences that begin within an episode start from: zero, or the state that the model had there when it last
    learned from the step before; stored states take room in memory and in every checkpoint"""
    threads: Index = 0
    """threads of torch on the CPU; 0: as many as a trial at the beginning finds best on this machine"""
    device: str = "cpu"
    """cpu or cuda"""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """of matrix products in training, where auto takes what a trial finds faster; weights and losses stay in fp32"""
    log_every: Count = 100
    """updates between lines of the log"""
    checkpoint_every: Count = 1000
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
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    """what an explorer seeks (learner: plan2explore)"""
    director: DirectorConfig = field(default_factory=DirectorConfig)
    """manager, worker and goals (learner: director)"""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """measurements"""
    planner: dict[str, Any] = field(default_factory=dict)
    """planner defaults written into the exported manifest, and used for evaluation"""


def presets(kind: str = "") -> list[str]:
    """Names of the presets in the package: ``cartpole``, ``learners/dreamer``, …

    Args:
        kind: only those in this folder (``learners``, ``tasks``, ``sizes``).
    """
    found = [path.relative_to(PRESETS).with_suffix("").as_posix() for path in PRESETS.rglob("*.yaml")]
    return sorted(name for name in found if name.startswith(f"{kind}/" if kind else ""))


def load_config(*sources: str | Path, base: TrainConfig | None = None) -> TrainConfig:
    """Presets by name, or YAML files by path, one after the other.

    A preset in a folder is also found by its last name where that is unique: ``dreamer`` is ``learners/dreamer``.

    Raises:
        ValueError: no such preset, or a key or value that does not fit (naming the nearest right key).
    """
    config = base or TrainConfig()
    for source in sources:
        for path, content in _files(source, ()):
            try:
                config = merge(config, content)
            except ValueError as error:
                raise ValueError(f"{path.name}: {error}") from error
    return config


def override(config: TrainConfig, words: list[str]) -> TrainConfig:
    """A configuration with ``--field.name value`` arguments applied; values are read as YAML, texts as they stand.

    Raises:
        ValueError: an argument that is no field, or a value that does not fit.
    """
    return merge(config, arguments(words, config))


def check_stop(config: TrainConfig) -> None:
    """Raises ValueError where a run is to stop after its last update."""
    if config.stop > config.updates:
        raise ValueError(
            f"stop: expected at most updates ({config.updates}), got {config.stop}: a run ends with its updates; give "
            "more (--updates), or leave stop at 0"
        )


def without_late_stop(config: TrainConfig) -> TrainConfig:
    """A configuration that stops beyond its updates as one that ends with them, which it means."""
    return replace(config, stop=0) if config.stop > config.updates else config


def _files(source: str | Path, within: Sequence[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """A preset's file, its bases before it."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        path = path if path.is_absolute() or not within else within[-1].parent / path
    else:
        path = _preset(str(source))
    if path in within:
        raise ValueError(f"{path.name} is among its own bases")
    content = read_yaml_file(path)
    bases = content.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    return [file for base in bases for file in _files(base, (*within, path))] + [(path, content)]


def _preset(name: str) -> Path:
    known = presets()
    fitting = [name] if name in known else [each for each in known if each.rpartition("/")[2] == name]
    if len(fitting) != 1:
        short = [each.rpartition("/")[2] for each in known]
        found = f": it is one of {', '.join(fitting)}" if fitting else did_you_mean(name, [*short, *known])
        raise ValueError(f"no preset {name!r}{found} (there are {', '.join(known)})")
    return PRESETS / f"{fitting[0]}.yaml"
