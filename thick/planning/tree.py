"""Every sequence of high-level actions up to a depth, level by level: few, wide batches instead of many simulations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thick import pytrees
from thick.planning.mcts import Path
from thick.planning.protocols import SearchModel
from thick.planning.randomness import Randomness


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
        state = pytrees.map_arrays(lambda x: x.unsqueeze(1), model.root())
        self._states = [state]  # each [B, G^level, ...]
        self._nodes = [model.evaluate(state)]  # likewise
        self._prior = self._nodes[0].prior[:, 0]  # [B, G]
        self.actions = self._prior.shape[-1]
        self.levels = levels_within(simulations, self.actions, depth)
        self.simulations_asked = sum(self.actions**level for level in range(1, self.levels + 1))
        self.simulations_done = 0
        self._rows = torch.arange(self._prior.shape[0], device=self._prior.device)
        self._values: list[Tensor] = []  # of all edges, [B, G^level, G]

    @property
    def done(self) -> bool:
        """Whether every level was expanded."""
        return len(self._values) >= self.levels

    def step(self) -> None:
        """Expand one level."""
        if self.done:
            return
        state = pytrees.map_arrays(lambda x: x.flatten(1, 2), self._nodes[-1].children)
        self._states.append(state)
        self._nodes.append(self.model.evaluate(state))
        self.simulations_done += self._nodes[-1].value.shape[1]
        self._back_up()

    def _back_up(self) -> None:
        """Values of all edges, from the leaves up."""
        value = self._nodes[-1].value.float()
        self._values = []
        for node in reversed(self._nodes[:-1]):
            edges = node.reward + node.discount * value.reshape(node.reward.shape)
            prior = node.prior
            allowed = (prior >= self.floor) | (prior == prior.amax(-1, keepdim=True))
            self._values.insert(0, edges.masked_fill(~allowed, -torch.inf))
            value = self._values[0].amax(-1)

    # -- answers, as MCTS gives them -----------------------------------------------------------------------------

    @property
    def states(self) -> Any:
        """States of all nodes, level after level, ``[B, nodes, ...]``."""
        return pytrees.map_arrays(lambda *levels: torch.cat(levels, 1), *self._states)

    @property
    def root_values(self) -> Tensor:
        """Value of each action at the root ``[B, G]``; 0 where it was left out or not yet looked at."""
        if not self._values:
            return torch.zeros_like(self._prior)
        values = self._values[0][:, 0]
        return torch.where(torch.isfinite(values), values, 0.0)

    @property
    def root_visits(self) -> Tensor:
        """Edges looked at below each action of the root, ``[B, G]``."""
        below = self.simulations_done / self.actions
        return torch.full_like(self._prior, below)

    def best(self, node: Tensor, *, temperature: float = 0.0, randomness: Randomness | None = None) -> Tensor:
        """Best valued action at the root ``[B]`` (``node`` is 0), or the most probable before the first slice."""
        if not self._values:
            return self._prior.argmax(-1)
        values = self._values[0][:, 0]
        if temperature > 0 and randomness is not None:
            return (values / temperature + randomness.gumbel(self.actions)).argmax(-1)
        return values.argmax(-1)

    def path(self, first: Tensor | None = None) -> Path:
        """The best way down; ``first`` ``[B]`` fixes its first action."""
        actions, nodes = [], []
        place = torch.zeros_like(self._rows)  # index within the level
        before = 1  # nodes of the levels above
        for level, values in enumerate(self._values):
            action = first if level == 0 and first is not None else values[self._rows, place].argmax(-1)
            place = place * self.actions + action
            actions.append(action)
            nodes.append(before + place)
            before += self.actions ** (level + 1)
        if not actions:
            none = torch.full((self._rows.shape[0], 1), -1, dtype=torch.int64, device=self._rows.device)
            return Path(none, none)
        return Path(torch.stack(actions, 1), torch.stack(nodes, 1))


def levels_within(budget: int, actions: int, most: int) -> int:
    """Levels of a full tree of ``actions`` branches with at most ``budget`` edges; at least 1, at most ``most``."""
    levels, total = 1, actions
    while levels < most and total + actions ** (levels + 1) <= budget:
        levels += 1
        total += actions**levels
    return levels
