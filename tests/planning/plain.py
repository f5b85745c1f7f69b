"""Problems over arrays of numpy alone; nothing here imports torch."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from thick.arrays import Arrays, of
from thick.planning import table
from thick.planning.actions import ActionRange, Actions
from thick.planning.protocols import Node, Score
from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm
from thick.planning.settings import PlannerSettings

KEYS = np.array([3, -(2**63), 2**63 - 1], np.int64)


class Bandit:
    """B states whose actions end the episode with known rewards."""

    def __init__(self, prior: np.ndarray, reward: np.ndarray) -> None:
        self.prior, self.reward = prior.astype(np.float32), reward.astype(np.float32)

    def root(self) -> Any:
        return (np.zeros(len(self.prior), np.int64),)

    def evaluate(self, state: Any) -> Node:
        value = (self.prior * self.reward).sum(-1)
        return Node(self.prior, value, self.reward, 0 * self.reward, (np.ones(self.prior.shape, np.int64),))


class NoActor:
    """What a sampling search reads of a dynamics, but for what imagines."""

    has_actor = False


class Problem:
    """What a sampling search reads of a problem, but for what scores candidates."""

    dynamics: Any = NoActor()
    objective: Any = None
    belief: Any = None
    subgoal: Any = None

    def __init__(
        self, settings: PlannerSettings, actions: Actions, randomness: Randomness, xp: Arrays
    ) -> None:
        self.settings, self.actions, self.randomness = settings, actions, randomness
        self.warm = Warm(xp.zeros(3, settings.horizon, actions.size), xp.no(3))


def searched(low: str, convert: Any = np.asarray) -> tuple[Any, Any]:
    """Plan and expected return of a sampling search for sequences near a point, in the arrays of ``convert``."""
    horizon, rng = 6, np.random.default_rng(1)
    size = 4 if low == "categorical-cem" else 2
    target = convert(rng.uniform(-0.9, 0.9, (3, horizon, size)).astype(np.float32))
    xp = of(target)

    def evaluate(candidates: Any, noise: Randomness) -> Score:
        off = candidates - target[:, None]
        score = -(off * off).sum(-1).sum(-1)
        return Score(score, score)

    settings = PlannerSettings(low=low, samples=100, iterations=4, elites=12, horizon=horizon)
    actions = Actions(size, None if size == 4 else ActionRange(-xp.ones(size), xp.ones(size)))
    problem: Any = Problem(settings, actions, Randomness(convert(KEYS)), xp)
    search = importlib.import_module(table.LOW[low].module).low_search(problem)
    search.evaluate = evaluate
    while not search.done:
        search.step()
    return search.sequence(), search.expected_return()
