"""The settings of a planner: one frozen, documented record with limits. Free of torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thick.nearest import did_you_mean
from thick.planning.table import TABLE

_MASK = (1 << 64) - 1


def _planner(default: str, setting: str) -> Any:
    return field(default=default, metadata={"choices": tuple(TABLE[setting])})


def _number(default: float | int, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class PlannerSettings:
    """How to plan one action. Defaults are the paper's where the paper has them."""

    method: str = _planner("hierarchical", "method")
    """hierarchical (search over high-level actions, then low level towards the subgoal), flat, or policy (actor)"""
    low: str = _planner("cem", "low")
    """search over low-level actions: cem, icem, mppi (continuous), categorical-cem, mcts (discrete), policy-rollouts
    (with an actor)"""
    high: str = _planner("mcts", "high")
    """search over high-level actions: mcts, gumbel (halves the root's actions), tree (every sequence up to a depth);
    or none, as a control: prior (a jump drawn by p(A | s)), random (drawn uniformly)"""

    # -- low level ---------------------------------------------------------------------------------------------
    samples: int = _number(1000, 2, 100_000)
    """candidates of each iteration"""
    iterations: int = _number(10, 1, 1_000)
    """iterations of the search; low-level mcts makes samples / 10 simulations in each"""
    elites: int = _number(100, 1, 10_000)
    """candidates the next iteration is fitted to (never more than the samples)"""
    horizon: int = _number(12, 1, 1_000)
    """low-level steps imagined ahead"""
    discount: float = _number(0.99, 0.0, 1.0)
    """weight of a reward one step later; 1 is the plain mean of PlaNet"""
    stochastic: bool = True
    """sample imagined states (otherwise take their modes)"""
    warm_start: bool = True
    """start from the previous plan, shifted by the step that was taken"""
    agreement: float = _number(0.0, 0.0, 1.0)
    """sampling searches stop once this share of the elites begins as the plan does; 0 makes all iterations"""
    hold: float = _number(1.0, 0.01, 1.0)
    """share of the samples used while the last plan holds: it is not used up, no gate opened, none searched above"""
    smoothing: float = _number(0.1, 0.0, 0.99)
    """share of the old distribution kept by each refit"""
    minimum_std: float = _number(0.05, 0.0, 2.0)
    """smallest standard deviation of a continuous search, in units of half the action range"""
    kept: int = _number(10, 0, 1000)
    """icem: elites that join the next iteration's candidates"""
    sample_decay: float = _number(1.25, 1.0, 10.0)
    """icem: factor by which the candidates become fewer with each iteration"""
    noise_colour: float = _number(2.0, 0.0, 4.0)
    """icem: exponent of the noise's power spectrum over time; 0 is white, 2 is red"""
    sharpness: float = _number(1.5, 0.001, 1000.0)
    """mppi, categorical-cem: temperature of the elites' weights, in standard deviations of their scores"""
    tau: float = _number(0.2, 0.001, 1000.0)
    """policy-rollouts: temperature of exp(Q / tau), in standard deviations of a rollout's score; large: the actor"""
    action_proposals: float = _number(0.1, 0.0, 0.9)
    """share of the first candidates that take, at some step, the action expected to lead into the change"""
    actor_proposals: int = _number(32, 0, 5_000)
    """candidates proposed by the actor, where the model has one"""
    critic: bool = True
    """add the critic's value at the horizon, where the model has one"""

    # -- high level --------------------------------------------------------------------------------------------
    simulations: int = _number(100, 1, 100_000)
    """simulations of the search over high-level actions"""
    depth: int = _number(8, 1, 32)
    """most jumps, one after the other, of the search over high-level actions"""
    exploration: float = _number(0.0, 0.0, 1.0)
    """share of Dirichlet noise in the root's prior (0: the search is deterministic)"""
    prior_floor: float = _number(0.02, 0.0, 1.0)
    """tree: high-level actions less probable than this are left out, unless they are the most probable"""
    kappa: float = _number(0.025, 0.0, 1_000.0)
    """weight of the similarity to the subgoal, added to the mean reward"""
    arrival: bool = True
    """credit candidates that go through the expected context change (otherwise similarity alone, as in the paper)"""
    arrival_bonus: float = _number(1.0, 0.0, 100.0)
    """credit of each step after the arrival, beyond a similarity of 1"""
    arrival_similarity: float = _number(0.5, 0.0, 1.0)
    """similarity to the subgoal needed on the step before the change for it to count as the expected one"""
    ending_reward: float = _number(0.0, 0.0, 1_000_000.0)
    """an end of the episode on which more than this reward is expected is credited as an arrival; 0: no end is"""
    settle: int = _number(3, 0, 1_000)
    """a context change leads to a new high-level search once more than this many steps have passed"""
    patience: int = _number(40, 1, 100_000)
    """search again after this many steps even if no gate opened"""

    # -- choice --------------------------------------------------------------------------------------------------
    temperature: float = _number(0.0, 0.0, 100.0)
    """0 takes the best action; above, mcts draws by visits^(1/temperature), policy and policy-rollouts sample at it"""
    seed: int | None = field(default=None, metadata={"low": 0, "high": _MASK >> 1})
    """seed of the session's randomness; none takes the session's own"""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            _check(spec.name, getattr(self, spec.name))

    def updated(self, changes: Mapping[str, Any]) -> PlannerSettings:
        """These settings with some fields changed.

        Args:
            changes: field names and values, as a request or a manifest gives them.

        Raises:
            ValueError: a name is unknown (the nearest is named), or a value has the wrong type or is out of limits.
        """
        if not isinstance(changes, Mapping):
            raise ValueError(f"planner: expected an object of settings, got {type(changes).__name__}")
        known = {spec.name for spec in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                hint = did_you_mean(str(name), known) or f"; known are {', '.join(sorted(known))}"
                raise ValueError(f"planner.{name}: no such setting{hint}")
        return dataclasses.replace(self, **{name: _check(name, value) for name, value in changes.items()})

    def __hash__(self) -> int:
        found: int | None = self.__dict__.get("_hash")
        if found is None:  # an engine looks its settings up a dozen times for each slice
            found = hash(tuple(getattr(self, each.name) for each in dataclasses.fields(self)))
            object.__setattr__(self, "_hash", found)
        return found

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return dataclasses.asdict(self)

    @property
    def elite_count(self) -> int:
        """Elites that can be had from the samples."""
        return min(self.elites, self.samples)


def _check(name: str, value: Any) -> Any:
    """The value in its field's own type, or ValueError."""
    spec = _FIELDS[name]
    meta, kind = spec.metadata, str(spec.type)
    if "choices" in meta:
        if value not in meta["choices"] or not isinstance(value, str):
            raise ValueError(f"planner.{name}: expected one of {', '.join(meta['choices'])}, got {value!r}")
        return value
    if kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"planner.{name}: expected true or false, got {value!r}")
        return value
    if value is None and kind == "int | None":
        return None
    whole = kind.startswith("int")
    low, high = meta["low"], meta["high"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"planner.{name}: expected a number from {low} to {high}, got {value!r}")
    if whole and value != int(value):
        raise ValueError(f"planner.{name}: expected a whole number from {low} to {high}, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"planner.{name}: expected a value from {low} to {high}, got {value!r}")
    return int(value) if whole else float(value)


_FIELDS = {spec.name: spec for spec in dataclasses.fields(PlannerSettings)}


def mix64(value: int) -> int:
    """SplitMix64's finaliser on an unsigned 64-bit integer (Steele et al., 2014)."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def session_key(seed: int, step: int) -> int:
    """The key of one step of one session, as a signed 64-bit integer: all randomness of that step follows from it.

    Args:
        seed: the session's seed.
        step: acts since the session's last reset (a service may count resets into the seed).
    """
    key = mix64(mix64(seed + 0x9E3779B97F4A7C15) ^ (step & _MASK))
    return key - (1 << 64) if key >> 63 else key


def planner_changes(arguments: Iterable[str]) -> dict[str, Any]:
    """``NAME=VALUE`` arguments of a command line as settings, checked; values are read as YAML.

    Raises:
        ValueError: an argument of another form, an unknown setting or a value that does not fit.
    """
    from thick.configuration import read_value

    changes = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise ValueError(f"--set {argument}: expected NAME=VALUE, such as samples=200")
        changes[name] = read_value(f"--set {name}", value)
    PlannerSettings().updated(changes)
    return changes
