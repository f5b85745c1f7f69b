"""Monte-Carlo tree search with PUCT (AlphaZero, MuZero): one tree a session, all asked together.

The model is asked for all sessions at once, in arrays; what a tree counts (visits, mean returns) are plain numbers in
lists. A selection looks at a handful of edges, for which a call into an array library costs more than the arithmetic.
The numbers are float64, made of operations that are the same on every processor, and no session's tree knows another's.

A model may search its trees itself (:class:`thick.planning.forests.Forest`); what is found there is read here.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from typing import Any

from thick import pytrees
from thick.arrays import Array, of
from thick.arrays.functions import log_of
from thick.planning.forests import Forest, Forester, Rule
from thick.planning.protocols import Node, SearchModel
from thick.planning.randomness import Randomness
from thick.planning.searches import HighSearch, Path
from thick.planning.settings import PlannerSettings

_EXPLORATION_BASE, _EXPLORATION_START = 19652.0, 1.25  # MuZero (Schrittwieser et al., 2020), appendix B
SLICE_S = 0.0015
"""a slice makes no further simulation after so long: others wait for its end"""
SMALLEST_RANGE = 0.01  # values closer than this are not blown up to the whole range (EfficientZero)


class Edges:
    """A node of one tree and its edges, one entry an action."""

    __slots__ = ("child", "discount", "prior", "reward", "total", "value", "values", "visits")

    def __init__(self, prior: list[float], value: float, reward: list[float], discount: list[float]) -> None:
        self.prior, self.value, self.reward, self.discount = prior, value, reward, discount
        self.visits = [0] * len(prior)
        self.total = 0
        self.values = [0.0] * len(prior)
        """mean return of each edge"""
        self.child = [-1] * len(prior)


class ReadNodes(Sequence[Edges]):
    """The nodes of a tree that a model searched, read as they are asked for."""

    def __init__(self, forest: Forest, session: int) -> None:
        self._forest, self._session = forest, session
        self._seen: dict[int, Edges] = {}

    def __len__(self) -> int:
        raise TypeError("nobody counts them")

    def __getitem__(self, node: Any) -> Any:
        found = self._seen.get(node)
        if found is None:
            prior, value, reward, discount, (visits, values, child) = self._forest.edges(self._session, node)
            found = self._seen[node] = Edges(prior, value, reward, discount)
            found.visits, found.values, found.child = visits, values, child
            found.total = sum(visits)
        return found


class SessionTree:
    """The tree of one session.

    Args:
        rates: PUCT's factor of a node by its visits.
    """

    __slots__ = ("highest", "lowest", "nodes", "rates")

    def __init__(self, rates: list[float]) -> None:
        self.rates = rates
        self.nodes: Any = []
        """:class:`Edges` by the number of the node"""
        self.lowest, self.highest = math.inf, -math.inf

    def add(self, prior: list[float], value: float, reward: list[float], discount: list[float]) -> None:
        """A node that was just evaluated."""
        self.nodes.append(Edges(prior, value, reward, discount))

    def scale(self) -> float:
        """Factor that takes the range of all values to [0, 1]."""
        return 1.0 / max(self.highest - self.lowest, SMALLEST_RANGE)

    def select(self, node: int, level: int) -> int:
        """The action that PUCT takes in a node; values are min-max normalised over the tree, 0 where never tried."""
        edges, lowest, scale = self.nodes[node], self.lowest, self.scale()
        best, action, rate = -math.inf, 0, self.rates[edges.total]
        each = zip(edges.visits, edges.prior, edges.values)  # noqa: B905 - of one length, and strict costs
        for at, (visits, prior, value) in enumerate(each):
            score = rate * prior
            if visits:
                score = score / (1 + visits) + (value - lowest) * scale
            if score > best:
                best, action = score, at
        return action

    def descend(self, depth: int) -> list[tuple[int, int]]:
        """The way (node, action) down to an edge that was never taken, or to the greatest depth."""
        node, way = 0, []
        for level in range(depth):
            action = self.select(node, level)
            way.append((node, action))
            node = self.nodes[node].child[action]
            if node < 0:
                break
        return way

    def carry_back(self, way: list[tuple[int, int]], value: float) -> None:
        """Update the edges of a way with the value of its end."""
        for node, action in reversed(way):
            edges = self.nodes[node]
            value = edges.reward[action] + edges.discount[action] * value
            edges.visits[action] += 1
            edges.total += 1
            edges.values[action] += (value - edges.values[action]) / edges.visits[action]
            mean = edges.values[action]
            self.lowest, self.highest = min(self.lowest, mean), max(self.highest, mean)

    def best(self, node: int) -> int:
        """Most visited action of a node, then the best valued, then the most probable."""
        edges, scale = self.nodes[node], self.scale()
        best, action = -math.inf, 0
        for at, visits in enumerate(edges.visits):
            # Visits are whole numbers, and what breaks ties lies in [0, 1).
            valued = 0.5 * (edges.values[at] - self.lowest) * scale if visits else 0.0
            score = visits + valued + 0.25 * edges.prior[at]
            if score > best:
                best, action = score, at
        return action


class MCTS:
    """An anytime search; a slice makes a few simulations.

    Args:
        model: what to search in.
        simulations: simulations of the whole budget.
        depth: longest path.
        chunk: simulations of a slice at most.
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
        self._root = model.root()
        self._xp = of(pytrees.first(self._root))
        self._batch = pytrees.first(self._root).shape[0]
        rates = _rates(simulations)
        forester: Forester | None = getattr(model, "forester", None)
        self._forest: Forest | None = None
        if forester is None:
            root = model.evaluate(self._root)
            self.actions = root.prior.shape[1]
            self._trees = self._planted(rates)
            self._make_room(root)
        else:
            self.actions = forester.actions
            self._trees = self._planted(rates)
            self._forest = forester.forest(
                self._root,
                self._rule(),
                simulations=simulations,
                depth=depth,
                critic=model.critic,  # type: ignore[attr-defined]
            )
            self._read()
        if exploration > 0:
            if randomness is None:
                raise ValueError("exploration: needs randomness; pass it, or leave the exploration at 0")
            noise = -self._xp.log(randomness.uniform(self.actions) + 2.0**-25)
            self._explore(exploration, noise.tolist())

    def _make_room(self, root: Node) -> None:
        """For states behind all edges of all nodes: what an edge leads to is one read."""
        self._nodes = self.simulations_asked + 1
        leaves, self._build = pytrees.flatten(root.children)
        flat = len(leaves) == len(root.children)
        self._leaves = (lambda tree: tree) if flat else (lambda tree: pytrees.flatten(tree)[0])
        edges = self._batch * self._nodes * self.actions
        self._next = [self._xp.empty_like(x, self._batch, self._nodes, *x.shape[1:]) for x in leaves]
        self._behind = [x.reshape(edges, *x.shape[3:]) for x in self._next]
        self._came: list[list[int]] = []
        """for each node but the root and each session, the edge that led there"""
        self._add(0, root)

    def _explore(self, share: float, noise: list[list[float]]) -> None:
        """Mix noise into the priors of the roots."""
        for row, (tree, drawn) in enumerate(zip(self._trees, noise, strict=True)):
            edges, whole = tree.nodes[0], math.fsum(drawn)
            edges.prior = [
                (1 - share) * prior + share * each / whole
                for prior, each in zip(edges.prior, drawn, strict=True)
            ]
            if self._forest is not None:
                self._forest.set_prior(row, edges.prior)

    def _planted(self, rates: list[float]) -> list[SessionTree]:
        """A tree for each session."""
        return [SessionTree(rates) for _ in range(self._batch)]

    def _rule(self) -> Rule:
        """How actions are selected."""
        return Rule()

    @property
    def done(self) -> bool:
        """Whether all simulations were made."""
        return self.simulations_done >= self.simulations_asked

    def step(self) -> None:
        """A slice of simulations; when it ends changes nothing but where the pauses are."""
        if self._forest is not None:
            self.simulations_done = self._forest.simulate(
                self.simulations_done, self.simulations_asked, SLICE_S
            )
            self._read()
            return
        until = time.perf_counter() + SLICE_S
        for _ in range(min(self.chunk, self.simulations_asked - self.simulations_done)):
            self._simulate()
            self.simulations_done += 1
            if time.perf_counter() > until:
                break

    def _read(self) -> None:
        """Let the trees here be those that the model has searched."""
        assert self._forest is not None
        for row, tree in enumerate(self._trees):
            tree.nodes = ReadNodes(self._forest, row)
            tree.lowest, tree.highest = self._forest.bounds(row)

    # -- answers -----------------------------------------------------------------------------------------------

    @property
    def root_visits(self) -> Array:
        """Visits of each action at the root, ``[B, G]``."""
        return self._xp.as_float(self._xp.array([tree.nodes[0].visits for tree in self._trees]))

    @property
    def root_values(self) -> Array:
        """Mean return of each action at the root, ``[B, G]``; 0 where it was never tried."""
        return self._xp.as_float(self._xp.array([tree.nodes[0].values for tree in self._trees]))

    def best(self, *, temperature: float = 0.0, randomness: Randomness | None = None) -> Array:
        """Most visited action of the root ``[B]``, then the best valued, then the most probable.

        A ``temperature`` above 0 draws by visits^(1/temperature) instead.
        """
        xp = self._xp
        if temperature > 0 and randomness is not None:
            if self.simulations_done:
                weights = xp.log(xp.clip(self.root_visits, 1e-9)) / temperature
            else:
                weights = xp.log(xp.as_float(xp.array([tree.nodes[0].prior for tree in self._trees])))
            return (weights + randomness.gumbel(self.actions)).argmax(-1)
        return xp.array([tree.best(0) for tree in self._trees])

    def path(self, first: Array | None = None) -> Path:
        """The most visited way down from the root; ``first`` ``[B]`` fixes its first action."""
        begins = [None] * self._batch if first is None else first.tolist()
        actions, nodes = [], []
        for tree, begin in zip(self._trees, begins, strict=True):
            node, taken, reached = 0, [-1] * self.depth, [-1] * self.depth
            for level in range(self.depth):
                action = tree.best(node) if level or begin is None else begin
                node = tree.nodes[node].child[action]
                if node < 0:
                    break
                taken[level], reached[level] = action, node
            actions.append(taken)
            nodes.append(reached)
        return Path(self._xp.array(actions), self._xp.array(nodes))

    def states(self, nodes: Array) -> Any:
        """States of nodes ``[B, D]`` (those of -1 are the root's), ``[B, D, ...]``."""
        if self._forest is not None:
            return self._forest.states(nodes)
        xp, rows = self._xp, nodes.tolist()
        edges = [
            [self._came[node - 1][row] if node > 0 else 0 for node in each] for row, each in enumerate(rows)
        ]
        index, inner = xp.array(edges), nodes > 0
        found = self._build([x[index] for x in self._behind])
        root = pytrees.map_arrays(
            lambda x: xp.expand(x[:, None], -1, nodes.shape[1], *x.shape[1:]), self._root
        )
        return pytrees.where(inner, found, pytrees.map_arrays(xp.as_like, root, found))

    # -- one simulation: select, evaluate, carry back --------------------------------------------------------------

    def _simulate(self) -> None:
        place, room = self.simulations_done + 1, self._nodes * self.actions
        ways = [tree.descend(self.depth) for tree in self._trees]
        edges = [row * room + way[-1][0] * self.actions + way[-1][1] for row, way in enumerate(ways)]
        self._came.append(edges)
        # A path as deep as is allowed ends at a node that exists already: its value counts again.
        ends = [tree.nodes[way[-1][0]].child[way[-1][1]] for tree, way in zip(self._trees, ways, strict=True)]
        if min(ends) < 0:
            self._add(place, self.model.evaluate(self._states(edges)))
        else:
            for tree, end in zip(self._trees, ends, strict=True):
                tree.nodes.append(tree.nodes[end])  # keeps the count; nothing leads here
        for tree, way, end in zip(self._trees, ways, ends, strict=True):
            if end < 0:
                node, action = way[-1]
                end = tree.nodes[node].child[action] = place
            tree.carry_back(way, tree.nodes[end].value)

    def _states(self, edges: list[int]) -> Any:
        """The states that an edge of each tree leads to."""
        if self._batch == 1:  # a view costs less than an index
            (edge,) = edges
            return self._build([x[edge : edge + 1] for x in self._behind])
        index = self._xp.array(edges)
        return self._build([x[index] for x in self._behind])

    def _add(self, place: int, node: Node) -> None:
        """Store an evaluated node of every tree."""
        for room, new in zip(self._next, self._leaves(node.children), strict=True):
            room[:, place] = new
        numbers = (node.prior.tolist(), node.value.tolist(), node.reward.tolist(), node.discount.tolist())
        for tree, *each in zip(self._trees, *numbers, strict=True):
            tree.add(*each)


@functools.lru_cache(maxsize=8)
def _rates(simulations: int) -> list[float]:
    """PUCT's factors of nodes by their visits; nobody changes them."""
    return [_rate(visits) for visits in range(simulations + 1)]


def _rate(visits: int) -> float:
    """PUCT's factor of a node that was visited so often."""
    total = 1.0 + visits
    rate = _EXPLORATION_START + log_of((total + _EXPLORATION_BASE + 1) / _EXPLORATION_BASE)
    return rate * math.sqrt(total)


def high_search(model: SearchModel, settings: PlannerSettings, randomness: Randomness | None) -> HighSearch:
    """PUCT over high-level actions; ``randomness`` None searches without exploration noise."""
    return MCTS(
        model,
        simulations=settings.simulations,
        depth=settings.depth,
        exploration=0.0 if randomness is None else settings.exploration,
        randomness=randomness,
    )
