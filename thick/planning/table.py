"""The table of planners: what a plan can be made by, what each needs, and where it is. Imports nothing.

Whoever lists planners reads it: the settings' choices, what a checkpoint can do, the service's validation and its
OpenAPI, the help of the commands, the docs (a test compares those). A new search is one file and one line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

DISCRETE, CONTINUOUS, HIGH_LEVEL, ACTOR = "discrete actions", "continuous actions", "a high level", "an actor"
"""what a planner can need of a checkpoint"""


class Planner(NamedTuple):
    """One way of planning."""

    name: str
    """as a request has it"""
    needs: tuple[str, ...]
    """of a checkpoint"""
    module: str
    """where its search is built: by ``low_search(problem)``, or by ``high_search(model, settings, randomness)``"""
    summary: str
    """in a few words"""
    apart: bool = False
    """whether each session gets a search of its own: a slice for all would be as many times longer"""


def _named(*planners: Planner) -> dict[str, Planner]:
    return {planner.name: planner for planner in planners}


METHODS = _named(
    Planner("hierarchical", (HIGH_LEVEL,), "thick.planning.search", "high level first, then low level to the subgoal"),
    Planner("flat", (), "thick.planning.search", "the low level alone"),
    Planner("policy", (ACTOR,), "thick.planning.search", "the actor, nothing is searched"),
)  # fmt: skip
LOW = _named(
    Planner("cem", (CONTINUOUS,), "thick.planning.cem", "the cross-entropy method, as PlaNet's"),
    Planner("icem", (CONTINUOUS,), "thick.planning.icem", "correlated noise, ever fewer candidates, elites stay"),
    Planner("mppi", (CONTINUOUS,), "thick.planning.mppi", "moves to the elites' weighted mean"),
    Planner("categorical-cem", (DISCRETE,), "thick.planning.categorical_cem", "cem with a categorical for each step"),
    Planner("mcts", (DISCRETE,), "thick.planning.steps", "tree search with PUCT over the actions"),
    Planner(
        "policy-rollouts", (ACTOR,), "thick.planning.policy_rollouts", "the actor, one step better by rollouts", True
    ),
)  # fmt: skip
"""searches over low-level actions; the first that fits a checkpoint is its default"""
HIGH = _named(
    Planner("mcts", (HIGH_LEVEL,), "thick.planning.mcts", "tree search with PUCT"),
    Planner("gumbel", (HIGH_LEVEL,), "thick.planning.gumbel", "tree search that halves the root's actions"),
    Planner("tree", (HIGH_LEVEL,), "thick.planning.tree", "every sequence up to a depth"),
    Planner("prior", (HIGH_LEVEL,), "thick.planning.drawn", "a jump drawn by the prior, nothing searched: a control"),
    Planner("random", (HIGH_LEVEL,), "thick.planning.drawn", "a jump drawn uniformly, nothing searched: a control"),
)  # fmt: skip
"""searches over high-level actions"""
TABLE: Mapping[str, Mapping[str, Planner]] = {"method": METHODS, "low": LOW, "high": HIGH}
"""by the setting that names one"""


def fitting(setting: str, has: Collection[str]) -> list[str]:
    """The planners of a setting that a checkpoint with these properties can use."""
    return [name for name, planner in TABLE[setting].items() if set(planner.needs) <= set(has)]


def check(setting: str, name: str, has: Collection[str]) -> None:
    """Whether a checkpoint with these properties can plan so.

    Raises:
        ValueError: it cannot; says what is missing and what would do.
    """
    missing = [need for need in TABLE[setting][name].needs if need not in has]
    if missing:
        expected = ", ".join(fitting(setting, has))
        raise ValueError(
            f"planner.{setting}: {name!r} needs {' and '.join(missing)}, which this checkpoint does not have; "
            f"expected one of {expected}"
        )


def build(setting: str, name: str, *arguments: Any) -> Any:
    """The search of that name, made by its module's ``low_search`` or ``high_search``."""
    return getattr(importlib.import_module(TABLE[setting][name].module), f"{setting}_search")(*arguments)


def described(setting: str) -> str:
    """The planners of a setting in a line for people: ``name (summary; for what it needs), ...``."""
    parts = []
    for planner in TABLE[setting].values():
        needs = f"; needs {' and '.join(planner.needs)}" if planner.needs and setting != "high" else ""
        parts.append(f"{planner.name} ({planner.summary}{needs})")
    return ", ".join(parts)
