"""Acting by a manager and its worker (Director): a goal is chosen, held for some steps, and gone for."""

from __future__ import annotations

from typing import Any

from thick import pytrees
from thick.arrays import Array, of
from thick.planning.memory import GoalMemory
from thick.planning.protocols import ManagerModel
from thick.planning.randomness import Randomness


def held(manager: ManagerModel, belief: Any, memory: GoalMemory, randomness: Randomness) -> GoalMemory:
    """Goals of sessions ``[B]``, chosen anew where there is none or where it was held for its time.

    They are always drawn, as in the paper: a manager that takes its likeliest code can stay at one goal for ever.
    """
    due = ~memory.active | (memory.age >= manager.every)
    if not bool(due.any()):
        return memory
    xp, batch = of(memory.age), memory.age.shape[0]
    uniforms = randomness.fold("goal").uniform(manager.draws)
    fresh = GoalMemory(manager.goal(belief, uniforms), ~xp.no(batch), xp.whole(batch))
    return pytrees.where(due, fresh, memory)


class Worker:
    """The worker as an actor on its way to goals.

    Args:
        manager: and worker.
        goal: ``[*B, D]``, one for each belief that is asked about.
    """

    def __init__(self, manager: ManagerModel, goal: Array) -> None:
        self._manager, self._goal = manager, goal

    def policy(self, belief: Any) -> tuple[Array, Array | None]:
        """Logits and None, or mean and standard deviation, of beliefs ``[*B, ...]``: ``[*B, A]`` each."""
        return self._manager.policy(belief, self._goal)
