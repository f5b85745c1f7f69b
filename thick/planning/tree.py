"""Every sequence of high-level actions up to a depth, level by level: few, wide batches instead of many simulations."""

from __future__ import annotations

import math
from typing import Any

from thick import pytrees
from thick.arrays import Array, of
from thick.planning.protocols import SearchModel
from thick.planning.randomness import Randomness
from thick.planning.searches import HighSearch, Path
from thick.planning.settings import PlannerSettings


class Tree:
    """An anytime full tree; a slice expands one level. The value of an action is that of the best way on.

    Actions that the prior finds less probable than ``floor`` are left out: what the model predicts of actions it was
    never trained on in such a state means nothing. The most probable action always stays.

    Args:
        model: what to search in.
        simulations: most nodes to evaluate beyond the root; decides the depth.
        depth: most levels.
        floor: smallest prior probability of an action.
    """

    def __init__(self, model: SearchModel, *, simulations: int, depth: int, floor: float = 0.0) -> None:
        self.model, self.floor = model, floor
        state = pytrees.map_arrays(lambda x: x[:, None], model.root())
        self._states = [state]  # each [B, G^level, ...]
        self._nodes = [model.evaluate(state)]  # likewise
        self._prior = self._nodes[0].prior[:, 0]  # [B, G]
        self.actions = self._prior.shape[-1]
        self.levels = levels_within(simulations, self.actions, depth)
        self.simulations_asked = sum(self.actions**level for level in range(1, self.levels + 1))
        self.simulations_done = 0
        self._xp = of(self._prior)
        self._rows = self._xp.arange(self._prior.shape[0])
        self._values: list[Array] = []  # of all edges, [B, G^level, G]

    @property
    def done(self) -> bool:
        """Whether every level was expanded."""
        return len(self._values) >= self.levels

    def step(self) -> None:
        """Expand one level."""
        if self.done:
            return
        state = pytrees.map_arrays(_joined, self._nodes[-1].children)
        self._states.append(state)
        self._nodes.append(self.model.evaluate(state))
        self.simulations_done += self._nodes[-1].value.shape[1]
        self._back_up()

    def _back_up(self) -> None:
        """Values of all edges, from the leaves up."""
        xp, value = self._xp, self._nodes[-1].value
        self._values = []
        for node in reversed(self._nodes[:-1]):
            edges = node.reward + node.discount * value.reshape(node.reward.shape)
            prior = node.prior
            allowed = (prior >= self.floor) | (prior == xp.max(prior, -1, keep=True))
            self._values.insert(0, xp.where(allowed, edges, -math.inf))
            value = xp.max(self._values[0], -1)

    # -- answers, as MCTS gives them -----------------------------------------------------------------------------

    def states(self, nodes: Array) -> Any:
        """States of nodes ``[B, D]`` (those of -1 are the root's), ``[B, D, ...]``."""
        xp, rows = self._xp, self._rows[:, None]
        index = xp.clip(nodes, 0)  # nodes are counted level after level
        return pytrees.map_arrays(lambda *levels: xp.concat(levels, 1)[rows, index], *self._states)

    @property
    def root_values(self) -> Array:
        """Value of each action at the root ``[B, G]``; 0 where it was left out or not yet looked at."""
        if not self._values:
            return self._xp.zeros(*self._prior.shape)
        values = self._values[0][:, 0]
        return self._xp.where(self._xp.isfinite(values), values, 0.0)

    @property
    def root_visits(self) -> Array:
        """Edges looked at below each action of the root, ``[B, G]``."""
        below = self.simulations_done / self.actions
        return self._xp.full(self._prior.shape, below)

    def best(self, *, temperature: float = 0.0, randomness: Randomness | None = None) -> Array:
        """Best valued action at the root ``[B]``, or the most probable before the first slice."""
        if not self._values:
            return self._prior.argmax(-1)
        values = self._values[0][:, 0]
        if temperature > 0 and randomness is not None:
            return (values / temperature + randomness.gumbel(self.actions)).argmax(-1)
        return values.argmax(-1)

    def path(self, first: Array | None = None) -> Path:
        """The best way down; ``first`` ``[B]`` fixes its first action."""
        actions, nodes = [], []
        place = self._rows * 0  # index within the level
        before = 1  # nodes of the levels above
        for level, values in enumerate(self._values):
            action = first if level == 0 and first is not None else values[self._rows, place].argmax(-1)
            place = place * self.actions + action
            actions.append(action)
            nodes.append(before + place)
            before += self.actions ** (level + 1)
        if not actions:
            none = self._xp.whole(self._rows.shape[0], 1) - 1
            return Path(none, none)
        return Path(self._xp.stack(actions, 1), self._xp.stack(nodes, 1))


def _joined(x: Array) -> Array:
    """``[B, nodes, G, ...]`` -> ``[B, nodes · G, ...]``"""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def levels_within(budget: int, actions: int, most: int) -> int:
    """Levels of a full tree of ``actions`` branches with at most ``budget`` edges; at least 1, at most ``most``."""
    levels, total = 1, actions
    while levels < most and total + actions ** (levels + 1) <= budget:
        levels += 1
        total += actions**levels
    return levels


def high_search(model: SearchModel, settings: PlannerSettings, randomness: Randomness | None) -> HighSearch:
    """The full tree of high-level actions; draws nothing while it searches."""
    return Tree(model, simulations=settings.simulations, depth=settings.depth, floor=settings.prior_floor)
