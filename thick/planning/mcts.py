"""Monte-Carlo tree search with PUCT, batched over sessions (AlphaZero, MuZero; the layout follows mctx).

One tree a session, all grown together in tensors ``[B, nodes, G]``: a simulation selects a path down every tree,
expands one edge of each, and carries the values back. Nothing loops over sessions; the only loop is over depth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from thick import pytrees
from thick.planning.protocols import Node, SearchModel
from thick.planning.randomness import Randomness

_EXPLORATION_BASE, _EXPLORATION_START = 19652.0, 1.25  # MuZero (Schrittwieser et al., 2020), appendix B
_VISITS, _VALUE, _PRIOR, _EXPLORE = 0, 1, 2, 3
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
        state = model.root()
        root = model.evaluate(state)
        batch, actions = root.prior.shape
        device = root.prior.device
        # One node more than there can be: where edges lead that were not yet taken, and paths stay once they end.
        nodes = self._nowhere = simulations + 1
        self._rows = torch.arange(batch, device=device)
        shape = (batch, nodes + 1, actions)
        # What a selection needs of a node's edges lies together: it is read at once.
        self._edges = torch.zeros(batch, nodes + 1, 4, actions, device=device)
        self._reward, self._discount = (torch.zeros(shape, device=device) for _ in range(2))
        self._child = torch.full(shape, self._nowhere, dtype=torch.int64, device=device)
        self._leaf = torch.zeros(batch, nodes + 1, device=device)
        self.states: Any = pytrees.map_arrays(lambda x: _room(x, 1, nodes + 1), state)
        self._next: Any = pytrees.map_arrays(lambda x: _room(x, 1, nodes + 1), root.children)
        self._lowest = torch.full((batch,), torch.inf, device=device)
        self._highest = torch.full((batch,), -torch.inf, device=device)
        self._write(0, state, root)
        if exploration > 0:
            if randomness is None:
                raise ValueError("exploration: needs randomness; pass it, or leave the exploration at 0")
            noise = randomness.uniform(actions).add_(2.0**-25).log_().neg_()
            prior = self._edges[:, 0, _PRIOR]
            prior.mul_(1 - exploration).add_(exploration * noise / noise.sum(-1, keepdim=True))
            self._edges[:, 0, _EXPLORE] = _explore(prior, torch.zeros_like(prior))

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
        return self._edges[:, 0, _VISITS]

    @property
    def root_values(self) -> Tensor:
        """Mean return of each action at the root, ``[B, G]``; 0 where it was never tried."""
        return self._edges[:, 0, _VALUE]

    def best(self, node: Tensor, *, temperature: float = 0.0, randomness: Randomness | None = None) -> Tensor:
        """Most visited action of a node ``[B]``, then the best valued, then the most probable.

        A ``temperature`` above 0 draws by visits^(1/temperature) instead.
        """
        edges = self._edges[self._rows, node]
        visits, _, prior, _ = edges.unbind(1)
        if temperature > 0 and randomness is not None:
            weights = visits.clamp_min(1e-9).log() / temperature
            weights = torch.where(visits.sum(-1, keepdim=True) > 0, weights, prior.log())
            return (weights + randomness.gumbel(visits.shape[-1])).argmax(-1)
        # Visits are whole numbers, and what breaks ties lies in [0, 1).
        scale = 1.0 / (self._highest - self._lowest).clamp_min(_SMALLEST_RANGE).unsqueeze(-1)
        return (visits + 0.5 * _normalised(edges, self._lowest.unsqueeze(-1), scale) + 0.25 * prior).argmax(
            -1
        )

    def path(self, first: Tensor | None = None) -> Path:
        """The most visited way down from the root; ``first`` ``[B]`` fixes its first action."""
        node = torch.zeros_like(self._rows)
        alive = torch.ones_like(self._rows, dtype=torch.bool)
        actions, nodes = [], []
        for level in range(self.depth):
            action = first if level == 0 and first is not None else self.best(node)
            child = self._child[self._rows, node, action]
            alive = alive & (child != self._nowhere)
            actions.append(torch.where(alive, action, -1))
            nodes.append(torch.where(alive, child, -1))
            node = torch.where(alive, child, node)
        return Path(torch.stack(actions, 1), torch.stack(nodes, 1))

    # -- one simulation: select, evaluate, carry back --------------------------------------------------------------

    def _simulate(self) -> None:
        place = self.simulations_done + 1
        rows = self._rows
        node = torch.zeros_like(rows)
        scale = 1.0 / (self._highest - self._lowest).clamp_min(_SMALLEST_RANGE).unsqueeze(-1)
        lowest = self._lowest.unsqueeze(-1)
        down, taken = [], []
        for _ in range(self.depth):
            edges = self._edges[rows, node]  # [B, 4, G]
            action = (_normalised(edges, lowest, scale) + edges[:, _EXPLORE]).argmax(-1)
            down.append(node)
            taken.append(action)
            node = self._child[rows, node, action]
            if bool((node == self._nowhere).all()):
                break
        nodes, actions = torch.stack(down, 1), torch.stack(taken, 1)  # [B, D]
        last = (nodes != self._nowhere).sum(1) - 1
        parent, chosen = nodes[rows, last], actions[rows, last]
        state = pytrees.map_arrays(lambda x: x[rows, parent, chosen], self._next)
        self._write(place, state, self.model.evaluate(state))
        # A path as deep as is allowed ends at a node that exists already: nothing is added, its value counts again.
        known = self._child[rows, parent, chosen]
        end = torch.where(known == self._nowhere, place, known)
        self._child[rows, parent, chosen] = end
        self._carry_back(nodes, actions, self._leaf[rows, end])

    def _write(self, place: int, state: Any, node: Node) -> None:
        """Store an evaluated node of every tree."""
        prior = node.prior
        self._edges[:, place, _PRIOR] = prior
        self._edges[:, place, _EXPLORE] = _explore(prior, torch.zeros_like(prior))
        self._leaf[:, place] = node.value
        self._reward[:, place], self._discount[:, place] = node.reward, node.discount
        pytrees.map_arrays(lambda all_, new: _put(all_, place, new), self.states, state)
        pytrees.map_arrays(lambda all_, new: _put(all_, place, new), self._next, node.children)

    def _carry_back(self, nodes: Tensor, actions: Tensor, value: Tensor) -> None:
        """Update the edges of paths ``[B, D]`` with the values of their ends ``[B]``."""
        rows = self._rows.unsqueeze(1)
        on_path = nodes != self._nowhere
        reward, discount = self._reward[rows, nodes, actions], self._discount[rows, nodes, actions]
        returns = []
        for level in range(nodes.shape[1] - 1, -1, -1):
            gained = reward[:, level] + discount[:, level] * value
            value = torch.where(on_path[:, level], gained, value)
            returns.append(value)
        path_returns = torch.stack(returns[::-1], 1)  # [B, D]
        visits, mean = (self._edges[rows, nodes, which, actions] for which in (_VISITS, _VALUE))
        mean = mean + (path_returns - mean) / (visits + 1)
        self._edges[rows, nodes, _VALUE, actions] = mean
        self._edges[rows, nodes, _VISITS, actions] = visits + 1
        edges = self._edges[rows, nodes]  # [B, D, 4, G]
        self._edges[rows, nodes, _EXPLORE] = _explore(edges[:, :, _PRIOR], edges[:, :, _VISITS])
        self._lowest = torch.minimum(self._lowest, torch.where(on_path, mean, torch.inf).amin(1))
        self._highest = torch.maximum(self._highest, torch.where(on_path, mean, -torch.inf).amax(1))


def _normalised(edges: Tensor, lowest: Tensor, scale: Tensor) -> Tensor:
    """Values of edges ``[B, 4, G]``, min-max normalised over the whole tree; 0 where never tried."""
    return torch.where(edges[:, _VISITS] > 0, (edges[:, _VALUE] - lowest) * scale, 0.0)


def _explore(prior: Tensor, visits: Tensor) -> Tensor:
    """PUCT's exploration term of edges ``[..., G]``."""
    total = 1.0 + visits.sum(-1, keepdim=True)
    rate = _EXPLORATION_START + ((total + _EXPLORATION_BASE + 1) / _EXPLORATION_BASE).log()
    return rate * total.sqrt() * prior / (1.0 + visits)


def _room(x: Tensor, dim: int, count: int) -> Tensor:
    """Zeros for ``count`` of ``x`` along a new dimension."""
    return x.new_zeros((*x.shape[:dim], count, *x.shape[dim:]))


def _put(all_: Tensor, place: int, new: Tensor) -> Tensor:
    all_[:, place] = new
    return all_
