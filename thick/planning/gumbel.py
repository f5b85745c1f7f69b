"""Tree search that halves the root's actions: Gumbel MuZero (Danihelka et al., 2022), after mctx's implementation.

PUCT spends simulations at the root wherever its bonus points, and needs many of them before visits say which action is
best. Here a few actions are considered, each is tried equally often, and the worse half is dropped again and again
(sequential halving). Below the root, actions are tried in the proportions of an improved policy. With few simulations
this finds better actions, and it promises one that is no worse than the prior's.

At temperature 0 nothing is drawn: the actions considered are the most probable ones. Above, Gumbel noise, scaled by it,
decides which are.
"""

from __future__ import annotations

import math

from thick.arrays import Array
from thick.arrays.functions import exp_of, log_of
from thick.planning.forests import Rule
from thick.planning.mcts import MCTS, SMALLEST_RANGE, Edges, SessionTree
from thick.planning.protocols import SearchModel
from thick.planning.randomness import Randomness
from thick.planning.searches import HighSearch
from thick.planning.settings import PlannerSettings

CONSIDERED = 16
"""actions that the root considers at most"""
_VALUE_SCALE, _VISITS_START = 0.1, 50.0  # mctx, qtransform_completed_by_mix_value
_TINY = 1e-30


class GumbelTree(SessionTree):
    """The tree of one session.

    Args:
        rates: of PUCT; not used here.
        schedule: visits that the root's next action has had, for each simulation.
        noise: Gumbel numbers of the root's actions; zeros where nothing is drawn.
    """

    __slots__ = ("_logits", "noise", "schedule")

    def __init__(self, rates: list[float], schedule: list[int], noise: list[float]) -> None:
        super().__init__(rates)
        self.schedule, self.noise = schedule, noise
        self._logits: dict[int, list[float]] = {}

    def logits(self, node: int) -> list[float]:
        """Of a node's prior."""
        found = self._logits.get(node)
        if found is None:
            prior = self.nodes[node].prior
            found = self._logits[node] = [log_of(max(probability, _TINY)) for probability in prior]
        return found

    def select(self, node: int, level: int) -> int:
        """The root: the best of the actions whose turn it is. Below: the action furthest behind its share."""
        edges = self.nodes[node]
        completed = _completed(edges)
        if level == 0:
            return self._best_of(completed, self.schedule[edges.total])
        logits = [logit + value for logit, value in zip(self.logits(node), completed, strict=True)]
        most = max(logits)
        shares = [exp_of(logit - most) for logit in logits]
        whole = _sum(shares)
        behind = [
            share / whole - visits / (1 + edges.total)
            for share, visits in zip(shares, edges.visits, strict=True)
        ]
        return behind.index(max(behind))

    def best(self, node: int) -> int:
        """Of the most visited actions the one with the best noise, prior and value."""
        edges = self.nodes[node]
        if node == 0:
            return self._best_of(_completed(edges), max(edges.visits))
        return super().best(node)

    def _best_of(self, completed: list[float], visits: int) -> int:
        """The best of the root's actions that were visited so often."""
        best, action = -math.inf, 0
        for at, count in enumerate(self.nodes[0].visits):
            score = self.noise[at] + self.logits(0)[at] + completed[at]
            if count == visits and score > best:
                best, action = score, at
        return action


class GumbelSearch(MCTS):
    """An anytime search as :class:`~thick.planning.mcts.MCTS`.

    Args:
        model, simulations, depth: see there.
        scale: of the Gumbel noise; 0 draws nothing.
        randomness: needed for noise alone.
    """

    def __init__(
        self,
        model: SearchModel,
        *,
        simulations: int,
        depth: int,
        scale: float = 0.0,
        randomness: Randomness | None = None,
    ) -> None:
        self._scale, self._noise_of = scale, randomness
        super().__init__(model, simulations=simulations, depth=depth)

    def _planted(self, rates: list[float]) -> list[SessionTree]:
        self._schedule = considered_visits(min(CONSIDERED, self.actions), self.simulations_asked)
        self._noise = [[0.0] * self.actions] * self._batch
        if self._scale > 0 and self._noise_of is not None:
            self._noise = (self._scale * self._noise_of.gumbel(self.actions)).tolist()
        return [GumbelTree(rates, self._schedule, row) for row in self._noise]

    def _rule(self) -> Rule:
        return Rule(self._schedule, self._noise)

    def best(self, *, temperature: float = 0.0, randomness: Randomness | None = None) -> Array:
        """The root's action ``[B]``; what is drawn was drawn at the beginning."""
        return super().best()


def considered_visits(actions: int, simulations: int) -> list[int]:
    """Sequential halving: how often the action of each simulation has been visited before.

    Args:
        actions: that are considered.
        simulations: in all.
    """
    if actions <= 1:
        return list(range(simulations))
    halvings = math.ceil(math.log2(actions))
    sequence: list[int] = []
    visits, considered = [0] * actions, actions
    while len(sequence) < simulations:
        for _ in range(max(1, simulations // (halvings * considered))):
            sequence += visits[:considered]
            visits[:considered] = [count + 1 for count in visits[:considered]]
        considered = max(2, considered // 2)
    return sequence[:simulations]


def _completed(edges: Edges) -> list[float]:
    """Values of all actions in units of logits; an action that was never tried has the mixed value of its state."""
    tried = [visits > 0 for visits in edges.visits]
    value = edges.value
    if edges.total:
        priors = [max(prior, _TINY) if at else 0.0 for prior, at in zip(edges.prior, tried, strict=True)]
        weighted = _sum([prior * each for prior, each in zip(priors, edges.values, strict=True)])
        value = (value + edges.total * weighted / _sum(priors)) / (1 + edges.total)
    completed = [each if at else value for each, at in zip(edges.values, tried, strict=True)]
    low, high = min(completed), max(completed)
    # Values that hardly differ are not blown up to the whole range (mctx goes down to 1e-8).
    scale = (_VISITS_START + max(edges.visits)) * _VALUE_SCALE / max(high - low, SMALLEST_RANGE)
    return [(each - low) * scale for each in completed]


def _sum(numbers: list[float]) -> float:
    """One after the other; Python's own sum is not the same in all its versions."""
    total = 0.0
    for number in numbers:
        total += number
    return total


def high_search(model: SearchModel, settings: PlannerSettings, randomness: Randomness | None) -> HighSearch:
    """Sequential halving over high-level actions; ``randomness`` None draws nothing."""
    return GumbelSearch(
        model,
        simulations=settings.simulations,
        depth=settings.depth,
        scale=settings.temperature,
        randomness=randomness,
    )
