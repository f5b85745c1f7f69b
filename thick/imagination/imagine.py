"""The way into imagination: checks what is asked, and hands it to the level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from thick.arrays import Array
from thick.imagination.asked import Asked, ImaginingAgent
from thick.imagination.high import imagine_jumps
from thick.imagination.low import imagine_steps
from thick.imagination.steps import ImaginedStep
from thick.planning.memory import AgentState
from thick.planning.randomness import Randomness
from thick.planning.settings import PlannerSettings

LEVELS = ("low", "high")
"""by their numbers, 0 and 1"""
POLICIES = ("plan", "prior", "actor", "all")


def imagine(
    agent: ImaginingAgent,
    state: AgentState,
    *,
    level: str | int,
    horizon: int,
    rollouts: int,
    policy: str,
    actions: Sequence[Any] | None,
    keys: Array,
    settings: PlannerSettings,
) -> Iterator[ImaginedStep | None]:
    """Imagine R rollouts from one state; nothing of the state changes.

    Args:
        state: ``B = 1``.
        level: high or 1 (jumps from context change to context change), low or 0 (single steps).
        horizon: steps of that level.
        rollouts: R; ``policy="all"`` makes one for each action instead.
        policy: where actions come from. ``plan``: the planner, asked at each jump (high) or as often as its plan ends
            (low). ``prior``: p(A | s) (high) or uniform (low). ``actor``: the actor (low). ``all``: each action once,
            then the most probable (high) or the same again (low).
        actions: to take instead: one list for all rollouts, or a list of R lists; the horizon is their length.
        keys: ``[1]`` int64.
        settings: of the planner.

    Yields:
        Steps, and None now and then within the planner's searches, for who has other things to do meanwhile.

    The first rollout takes the modes of imagined states, the others sample them (with ``all`` and given actions that
    differ, every rollout takes modes).

    Raises:
        ValueError: an argument is wrong or the checkpoint cannot do it. Raised at once, not at the first step.
    """
    if type(level) is int and 0 <= level < len(LEVELS):
        level = LEVELS[level]
    if level not in LEVELS:
        raise ValueError(f"level: expected high or low (1 or 0), got {level!r}")
    if policy not in POLICIES:
        raise ValueError(f"policy: expected one of {', '.join(POLICIES)}, got {policy!r}")
    if state.previous_action.shape[0] != 1:
        raise ValueError(f"state: expected one session, got {state.previous_action.shape[0]}")
    if horizon < 1 or rollouts < 1:
        raise ValueError(f"horizon, rollouts: expected at least 1, got {horizon} and {rollouts}")
    if level == "high" and not agent.has("hierarchical"):
        raise ValueError("level: this checkpoint has no high level; expected low")
    if policy == "actor" and level == "high":
        raise ValueError(
            "policy: the actor chooses low-level actions; at the high level expected plan, prior or all"
        )
    if policy == "actor" and not agent.has("policy"):
        raise ValueError("policy: this checkpoint has no actor; expected plan, prior or all")
    if policy == "all" and level == "low" and not agent.discrete and actions is None:
        raise ValueError("policy: continuous actions cannot all be tried; expected plan, prior or actor")
    asked = Asked(agent, state, horizon, rollouts, policy, Randomness(keys).fold("imagine"), settings)
    return (imagine_jumps if level == "high" else imagine_steps)(asked, actions)
