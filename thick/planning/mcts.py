"""Monte-Carlo tree search with PUCT, batched over sessions (AlphaZero, MuZero; the layout follows mctx).

One tree a session, all grown together in tensors ``[B, nodes, G]``: a simulation selects a path down every tree,
expands one edge of each, and carries the values back. Nothing loops over sessions; the only loop is over depth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from thick.planning import pytrees
from thick.planning.protocols import Edge, SearchModel
from thick.planning.randomness import Randomness

_EXPLORATION_BASE, _EXPLORATION_START = 19652.0, 1.25  # MuZero (Schrittwieser et al., 2020), appendix B
_SMALLEST_RANGE = 0.01  # values closer than this are not blown up to the whole range (EfficientZero)


class Path(NamedTuple):
    """The most visited way down each tree."""

    actions: Tensor
    """[B, D] int64, -1 beyond its end"""
    nodes: Tensor
    """[B, D] int64 index of the node each action leads to, -1 beyond the end"""


class MCTS:
    """An anytime search; a slice makes a few simulations.

    Args:
        model: what to search in.
        simulations: simulations of the whole budget.
        depth: longest path.
        chunk: simulations of a slice.
        exploration: share of Dirichlet(1) noise in the root's prior; 0 searches deterministically.
        randomness: needed for exploration alone.
    """

    def __init__(
        self,
        model: SearchModel,
        *,
        simulations: int,
        depth: int,
        chunk: int = 10,
        exploration: float = 0.0,
        randomness: Randomness | None = None,
    ) -> None:
        self.model, self.simulations_asked, self.depth, self.chunk = model, simulations, depth, chunk
        self.simulations_done = 0
        root = model.root()
        prior = root.logits.float().softmax(-1)  # [B, G]
        batch, actions = prior.shape
        if exploration > 0:
            if randomness is None:
                raise ValueError("exploration: needs randomness; pass it, or leave the exploration at 0")
            noise = randomness.uniform(actions).add_(2.0**-25).log_().neg_()
            prior = (1 - exploration) * prior + exploration * noise / noise.sum(-1, keepdim=True)
        nodes = simulations + 1
        self._rows = torch.arange(batch, device=prior.device)
        shape = (batch, nodes, actions)
        self.visits = prior.new_zeros(shape)
        self.values = prior.new_zeros(shape)  # mean return of each edge
        self._reward, self._discount, self._prior = (prior.new_zeros(shape) for _ in range(3))
        self._child = torch.full(shape, -1, dtype=torch.int64, device=prior.device)
        self._leaf = prior.new_zeros(batch, nodes)
        self._prior[:, 0], self._leaf[:, 0] = prior, root.value
        self.states: Any = pytrees.map_tensors(
            lambda x: x.new_zeros((batch, nodes, *x.shape[1:])).index_copy_(
                1, torch.zeros(1, dtype=torch.int64, device=x.device), x.unsqueeze(1)
            ),
            root.state,
        )
        self._lowest = torch.full((batch,), torch.inf, device=prior.device)
        self._highest = torch.full((batch,), -torch.inf, device=prior.device)

    @property
    def done(self) -> bool:
        """Whether all simulations were made."""
        return self.simulations_done >= self.simulations_asked

    def step(self) -> None:
        """A slice of simulations."""
        for _ in range(min(self.chunk, self.simulations_asked - self.simulations_done)):
            self._simulate()
            self.simulations_done += 1

    # -- answers -----------------------------------------------------------------------------------------------

    @property
    def root_visits(self) -> Tensor:
        """Visits of each action at the root, ``[B, G]``."""
        return self.visits[:, 0]

    @property
    def root_values(self) -> Tensor:
        """Mean return of each action at the root, ``[B, G]``; 0 where it was never tried."""
        return self.values[:, 0]

    def best(self, node: Tensor, *, temperature: float = 0.0, randomness: Randomness | None = None) -> Tensor:
        """Most visited action of a node ``[B]``, then the best valued, then the most probable.

        A ``temperature`` above 0 draws by visits^(1/temperature) instead.
        """
        visits = self.visits[self._rows, node]
        if temperature > 0 and randomness is not None:
            weights = visits.clamp_min(1e-9).log() / temperature
            weights = torch.where(
                visits.sum(-1, keepdim=True) > 0, weights, self._prior[self._rows, node].log()
            )
            return (weights + randomness.gumbel(visits.shape[-1])).argmax(-1)
        # Visits are whole numbers, and what breaks ties lies in [0, 1).
        return (visits + 0.5 * self._normalised(node) + 0.25 * self._prior[self._rows, node]).argmax(-1)

    def path(self, first: Tensor | None = None) -> Path:
        """The most visited way down from the root; ``first`` ``[B]`` fixes its first action."""
        node = torch.zeros_like(self._rows)
        alive = torch.ones_like(self._rows, dtype=torch.bool)
        actions, nodes = [], []
        for level in range(self.depth):
            action = first if level == 0 and first is not None else self.best(node)
            child = self._child[self._rows, node, action]
            alive = alive & (child >= 0)
            actions.append(torch.where(alive, action, -1))
            nodes.append(torch.where(alive, child, -1))
            node = torch.where(alive, child, node)
        return Path(torch.stack(actions, 1), torch.stack(nodes, 1))

    # -- one simulation: select, expand, carry back --------------------------------------------------------------

    def _simulate(self) -> None:
        path = []  # (node, action, on the path) of each level
        node = torch.zeros_like(self._rows)
        active = torch.ones_like(self._rows, dtype=torch.bool)
        parent, chosen = node, node
        for _ in range(self.depth):
            action = self._select(node)
            parent, chosen = torch.where(active, node, parent), torch.where(active, action, chosen)
            path.append((node, action, active))
            child = self._child[self._rows, node, action]
            active = active & (child >= 0)
            if not bool(active.any()):
                break
            node = torch.where(active, child, node)
        edge = self.model.expand(pytrees.along(self.states, parent), chosen)
        value = self._write(parent, chosen, edge)
        for node, action, on_path in reversed(path):
            value = self._carry_back(node, action, on_path, value)

    def _select(self, node: Tensor) -> Tensor:
        """argmax of value + exploration (PUCT), ``[B]``."""
        visits = self.visits[self._rows, node]  # [B, G]
        total = 1.0 + visits.sum(-1, keepdim=True)
        rate = _EXPLORATION_START + ((total + _EXPLORATION_BASE + 1) / _EXPLORATION_BASE).log()
        explore = rate * self._prior[self._rows, node] * total.sqrt() / (1.0 + visits)
        return (self._normalised(node) + explore).argmax(-1)

    def _normalised(self, node: Tensor) -> Tensor:
        """Values of a node's actions, min-max normalised over the whole tree; 0 where never tried."""
        span = (self._highest - self._lowest).clamp_min(_SMALLEST_RANGE).unsqueeze(-1)
        lowest = torch.where(torch.isfinite(self._lowest), self._lowest, 0.0).unsqueeze(-1)
        scaled = (self.values[self._rows, node] - lowest) / torch.where(torch.isfinite(span), span, 1.0)
        return torch.where(self.visits[self._rows, node] > 0, scaled, 0.0)

    def _write(self, parent: Tensor, action: Tensor, edge: Edge) -> Tensor:
        """Store the expanded edges; returns the value to carry back from each leaf ``[B]``."""
        rows, place = self._rows, self.simulations_done + 1
        known = self._child[rows, parent, action]
        fresh = known < 0
        # A path as deep as is allowed ends at a node that exists already: nothing is expanded, its value counts again.
        index = torch.where(fresh, place, known)
        self._child[rows, parent, action] = index
        keep = fresh.unsqueeze(-1)
        self._prior[:, place] = torch.where(keep, edge.node.logits.float().softmax(-1), self._prior[:, place])
        self._leaf[:, place] = edge.node.value
        self._reward[rows, parent, action] = torch.where(
            fresh, edge.reward.float(), self._reward[rows, parent, action]
        )
        self._discount[rows, parent, action] = torch.where(
            fresh, edge.discount.float(), self._discount[rows, parent, action]
        )
        pytrees.map_tensors(lambda all_, new: _assign(all_, place, new), self.states, edge.node.state)
        return self._leaf[rows, index]

    def _carry_back(self, node: Tensor, action: Tensor, on_path: Tensor, value: Tensor) -> Tensor:
        rows = self._rows
        gained = self._reward[rows, node, action] + self._discount[rows, node, action] * value
        value = torch.where(on_path, gained, value)
        visits = self.visits[rows, node, action]
        mean = self.values[rows, node, action]
        mean = torch.where(on_path, mean + (value - mean) / (visits + 1), mean)
        self.values[rows, node, action] = mean
        self.visits[rows, node, action] = visits + on_path
        self._lowest = torch.where(on_path, torch.minimum(self._lowest, mean), self._lowest)
        self._highest = torch.where(on_path, torch.maximum(self._highest, mean), self._highest)
        return value


def _assign(all_: Tensor, place: int, new: Tensor) -> Tensor:
    all_[:, place] = new.to(all_.dtype)
    return all_
