"""What a session remembers of its last plan, level by level, and when a level should plan again."""

from __future__ import annotations

import math
from typing import NamedTuple

from thick import pytrees
from thick.arrays import Array, of
from thick.models.beliefs import Belief
from thick.planning.actions import Actions
from thick.planning.objectives import Subgoal
from thick.planning.protocols import PlanningModel
from thick.planning.sampling import Warm
from thick.planning.settings import PlannerSettings

PATH = 8
"""jumps of a level's plan that are remembered"""


class LevelMemory(NamedTuple):
    """What is remembered of the plan of a level above the lowest; all ``[B, ...]``."""

    active: Array
    """[B] bool, there is a subgoal"""
    since: Array
    """[B] int64, steps since the level's last search"""
    subgoal: Subgoal
    """where the level below is going"""
    actions: Array
    """[B, PATH] int64, the plan in high-level actions, -1 beyond its end"""
    durations: Array
    """[B, PATH] predicted steps of each jump"""
    values: Array
    """[B, G] value of each high-level action when it was searched"""
    visits: Array
    """[B, G] how often each was tried"""


class GoalMemory(NamedTuple):
    """What is remembered of a manager's last choice; all ``[B, ...]``."""

    goal: Array
    """[B, D] deterministic feature to go to"""
    active: Array
    """[B] bool, there is one"""
    age: Array
    """[B] int64, steps since it was chosen"""


class PlanMemory(NamedTuple):
    """What a session remembers of its last plan; all ``[B, ...]``."""

    levels: tuple[LevelMemory, ...]
    """of the levels above the lowest, lowest first; empty where the model has none"""
    sequence: Array
    """[B, W, A] the low-level plan, from the step it was made on"""
    planned: Array
    """[B] bool, there is such a plan"""
    taken: Array
    """[B] int64, steps of it that were taken"""
    goals: tuple[GoalMemory, ...] = ()
    """of the manager; empty where the model has none"""

    def older(self) -> PlanMemory:
        """A step later."""
        levels = tuple(level._replace(since=level.since + 1) for level in self.levels)
        goals = tuple(goal._replace(age=goal.age + 1) for goal in self.goals)
        return self._replace(levels=levels, taken=self.taken + 1, goals=goals)

    def younger(self) -> PlanMemory:
        """A step earlier: what was planned ahead is as old as it was planned to be once that step was taken."""
        levels = tuple(level._replace(since=level.since - 1) for level in self.levels)
        goals = tuple(goal._replace(age=goal.age - 1) for goal in self.goals)
        return self._replace(levels=levels, taken=self.taken - 1, goals=goals)


class AgentState(NamedTuple):
    """All that a session carries from step to step; every leaf has the leading dimension B."""

    belief: Belief
    previous_action: Array
    """[B, A] the action the agent expects to have been taken"""
    plan: PlanMemory


def nothing_planned(model: PlanningModel, actions: Actions, length: int, batch: int) -> PlanMemory:
    """The memory of sessions that have not planned.

    Args:
        length: W, steps of the low-level plan that are remembered.
    """
    xp, low, high = model.arrays, model.exact, model.high
    levels = []
    if high is not None:
        subgoal = Subgoal(
            xp.zeros(batch, low.stoch, low.classes),
            xp.zeros(batch, actions.size),
            xp.zeros(batch, low.context),
            xp.zeros(batch),
        )
        count = high.actions
        levels.append(
            LevelMemory(
                active=xp.no(batch),
                since=xp.whole(batch),
                subgoal=subgoal,
                actions=xp.whole(batch, PATH) - 1,
                durations=xp.zeros(batch, PATH),
                values=xp.zeros(batch, count),
                visits=xp.zeros(batch, count),
            )
        )
    goals: tuple[GoalMemory, ...] = ()
    if model.manager is not None:
        goals = (GoalMemory(xp.zeros(batch, model.manager.size), xp.no(batch), xp.whole(batch)),)
    return PlanMemory(
        tuple(levels), xp.zeros(batch, length, actions.size), xp.no(batch), xp.whole(batch), goals
    )


def needs_search(belief: Belief, level: LevelMemory, settings: PlannerSettings) -> Array:
    """Sessions whose high level should search now, ``[B]`` bool (maths: THICK PlaNet)."""
    opened = (belief.gates > 0).any(-1)
    settled = level.since > settings.settle
    return ~level.active | (opened & settled) | (level.since >= settings.patience)


def warm_sequence(plan: PlanMemory, horizon: int) -> Warm:
    """The last plan, shifted to now and cut or continued (by its last action) to the horizon."""
    xp = of(plan.taken)
    batch, length, _ = plan.sequence.shape
    step = xp.clip(plan.taken[:, None] + xp.arange(horizon), high=length - 1)  # [B, H]
    rows = xp.arange(batch)[:, None]
    return Warm(plan.sequence[rows, step], plan.planned & (plan.taken < length))


def remembered(sequence: Array, length: int) -> Array:
    """A plan ``[B, H, A]`` cut or continued (by its last action) to ``[B, length, A]``."""
    made = sequence.shape[1]
    if made >= length:
        return sequence[:, :length]
    xp = of(sequence)
    return sequence[:, xp.clip(xp.arange(length), high=made - 1)]


def fitted(x: Array, fill: float) -> Array:
    """``[B, D]`` cut or filled to ``[B, PATH]``."""
    missing = PATH - x.shape[1]
    if missing <= 0:
        return x[:, :PATH]
    xp = of(x)
    return xp.concat([x, xp.empty_like(x, x.shape[0], missing) + math.trunc(fill)], 1)


def restarted(plan: PlanMemory, fresh: PlanMemory, mask: Array) -> PlanMemory:
    """The memory, with nothing planned where ``mask`` ``[B]`` says that an episode begins."""
    return pytrees.where(mask, fresh, plan)
