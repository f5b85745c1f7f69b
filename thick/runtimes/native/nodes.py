"""Nodes of a search's candidates: states, and what the objective carries along; and which of them are kept."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import deque
from typing import Any, NamedTuple, Protocol

import numpy as np

from thick.models.beliefs import Belief
from thick.planning.protocols import RolloutObjective, Score
from thick.runtimes.native import library as native
from thick.runtimes.native.calls import numbers, whole

ITERATIONS = 4
"""of the same search that a tree has room for at once"""
FEW_ACTIONS = 4
"""where each is the first of at least so many candidates, on average, it is imagined once for all of them"""
MOST_NODES = 200_000
"""a tree that would become larger starts anew"""


class Imagined(Protocol):
    """What a rollout needs of a low level."""

    stoch: int
    classes: int
    deter: int
    context: int
    action: int
    continuous: bool
    address: int
    """where its record for the kernels lies"""
    seconds_per_row: float
    """what a step of one candidate took lately"""

    @property
    def lead(self) -> int:
        """Floats of a row of every buffer."""

    @property
    def tile(self) -> int:
        """Rows that are computed together at most."""

    def head(self, name: str, stoch: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Output of a head, ``[N, O]``."""

    def step(
        self,
        stoch: np.ndarray,
        deter: np.ndarray,
        context: np.ndarray,
        action: np.ndarray,
        uniforms: np.ndarray | None,
        embedding: np.ndarray | None,
    ) -> tuple[Belief, Any]:
        """The belief after a step, and the record of it."""


class Steps(NamedTuple):
    """All steps of all candidates: rows, those of a step after those of the step before."""

    ends: np.ndarray
    """[H] int64 rows of each step and those before"""
    parent: np.ndarray
    """[rows] int64 nodes that they lead from"""
    node: np.ndarray
    """[rows] int64 and to"""
    chosen: np.ndarray | None
    """[rows] int64 action; None where actions are continuous"""
    candidates: np.ndarray
    """[B · N, H, A]"""
    path: np.ndarray
    """[H + 1, B · N] int64 nodes that the candidates come to; first where they start"""


class Nodes:
    """States, and what the objective carries along, of nodes.

    Args:
        low, belief, objective: see :func:`rollout`.
        tree: whether it is known where actions lead.
        more: nodes that it has room for besides those of the belief.
    """

    def __init__(
        self, low: Imagined, belief: Belief, objective: RolloutObjective, *, tree: bool, more: int
    ) -> None:
        self.low, self.belief, self.objective, self.tree = low, belief, objective, tree
        self.sessions = batch = belief.stoch.shape[0]
        size = low.context + low.deter
        self.count, room = batch, batch + more
        self._columns: dict[str, np.ndarray] = {  # what is new is written when a node is made
            "stoch": np.empty((room, low.stoch), np.int64),
            "memory": np.empty((room, size), np.float32),
            "total": np.empty(room, np.float32),
            "alive": np.empty(room, np.float32),
            "credit": np.empty(room, np.float32),
            "won": np.empty(room, np.float32),
            "near": np.empty(room, np.uint8),
            "arrived": np.empty(room, np.uint8),
            "session": np.empty(room, np.int32),
        }
        for name in ("total", "credit", "won", "near", "arrived"):
            self[name][:batch] = 0
        self["alive"][:batch], self["session"][:batch] = 1, np.arange(batch)
        self.child = np.empty((room if tree else 0, low.action), np.int64)
        self.child[:batch] = -1
        self["stoch"][:batch] = whole(belief.stoch, (batch, low.stoch), low.classes)
        self["memory"][:batch, : low.context] = belief.context
        self["memory"][:batch, low.context :] = belief.deter
        self._record = native.SearchRows(low.address, sessions=batch)
        self._record.bonus, self._record.ending = objective.bonus, objective.ending
        self._record.arrival = int(objective.arrival)
        self._goal: dict[str, np.ndarray] = {}
        if objective.goal is not None:
            self._set_goal(objective)
        self._begun: tuple[Belief, Any] | None = None
        self._straight: Steps | None = None
        self._point()

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def _point(self) -> None:
        """Tell the record where the nodes are."""
        for name, column in self._columns.items():
            setattr(self._record.nodes, name, native.address(column))

    def _set_goal(self, objective: RolloutObjective) -> None:
        low, batch = self.low, self.sessions
        logits = numbers(self.belief.logits, (batch, low.stoch, low.classes))
        goal = numbers(np.asarray(objective.goal), logits.shape)
        packed = np.empty((batch, low.classes, native.padded(low.stoch)), np.float32)
        similar = np.empty(batch, np.float32)
        given = (native.address(x) for x in (goal, logits, packed, similar))
        native.run(native.GOAL, native.GoalRows(low.address, *given), batch, low.lead)
        threshold = numbers(np.asarray(objective.threshold), (batch,))
        self["near"][:batch] = similar >= threshold
        self._goal = {
            "goal": packed,
            "goal_context": numbers(np.asarray(objective.context), (batch, low.context)),
            "distance": numbers(np.asarray(objective.distance), (batch,)),
            "least": threshold,
            "ends_there": np.ascontiguousarray(objective.ends, np.uint8),
        }
        for name, array in self._goal.items():
            setattr(self._record, name, native.address(array))

    def fits(self, rows: int, steps: int) -> bool:
        """Whether these are the nodes of so many candidates of so many steps."""
        return self._straight is not None and self._straight.path.shape == (steps + 1, rows)

    @property
    def room(self) -> int:
        """Nodes that it has room for."""
        return len(self["stoch"])

    def make_room(self, room: int) -> None:
        """Room for so many nodes."""
        for name, column in self._columns.items():
            grown = np.empty((room, *column.shape[1:]), column.dtype)
            grown[: self.count] = column[: self.count]
            self._columns[name] = grown
        if self.tree:
            child = np.empty((room, self.low.action), np.int64)  # what is new is written when a node is made
            child[: self.count] = self.child[: self.count]
            self.child = child
        self._point()

    def straight(self, tried: np.ndarray) -> Steps:
        """The steps of candidates ``[B · N, H, A]`` that share nothing: each has two nodes and goes from one to the
        other. Candidates that begin with the same action differ in what they draw and in nothing before, so where
        there are many each action's first step is made once."""
        low, batch = self.low, self.sessions
        rows, length, actions = tried.shape
        if self._straight is None:
            path = np.empty((length + 1, rows), np.int64)
            path[0] = np.repeat(np.arange(batch), rows // batch)
            path[1:] = batch + (np.arange(length)[:, None] % 2) * rows + np.arange(rows)
            ends = rows * np.arange(1, length + 1)
            self._straight = Steps(ends, path[:-1], path[1:], None, tried, path)
        if low.continuous:
            return self._straight._replace(candidates=tried)
        if self._begun is None and rows >= FEW_ACTIONS * batch * actions:
            now = self.belief
            z, h, c = (np.repeat(x[:, None], actions, 1) for x in (now.stoch, now.deter, now.context))
            each = np.zeros((batch, actions, actions), np.float32)
            each[:, range(actions), range(actions)] = 1
            self._begun = low.step(z, h, c, each, None, None)
            self._record.begun = ctypes.addressof(self._begun[1])
        # of one-hots: a tenth of what argmax takes
        hot = tried.reshape(-1, actions) @ np.arange(actions, dtype=np.float32)
        chosen = hot.reshape(rows, length).T.astype(np.int64, order="C")
        return self._straight._replace(chosen=chosen, candidates=tried)

    def job(self, steps: Steps, weight: np.ndarray, keys: np.ndarray | None, draw: int) -> Any:
        """The record of all steps; ``steps``, ``weight`` ``[H]`` and ``keys`` must live as long."""
        record = self._record
        for name in ("ends", "parent", "node", "candidates"):
            setattr(record, name, native.address(getattr(steps, name)))
        record.chosen = 0 if steps.chosen is None else native.address(steps.chosen)
        record.weight, record.steps = native.address(weight), len(steps.ends)
        record.keys, record.draw = 0 if keys is None else native.address(keys), draw
        return record

    def score(self, at: np.ndarray, length: int, weight: np.float32) -> Score:
        """Scores ``[B, N]`` of candidates that have come to nodes ``at`` ``[B · N]`` in so many steps."""
        returns, shape = self["total"][at], (self.sessions, len(at) // self.sessions)
        if self.objective.critic:
            value = self.low.head("critic", self["stoch"][at], self["memory"][at])[:, 0]
            returns = returns + weight * self["alive"][at] * value
        steps = np.float32(length)
        score = returns / steps
        if self.objective.goal is not None:
            score = score + np.float32(self.objective.kappa) * self["credit"][at] / steps
        return Score(score.reshape(shape), returns.reshape(shape))


class Kept:
    """Nodes that searches come back to: trees of actions, one for each belief that is still planned from; and what was
    imagined from lately without a tree."""

    LATELY = 2
    """searches without a tree that are remembered: as many as a small machine makes at once"""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trees: dict[int, Nodes] = {}
        self._straight: deque[Nodes] = deque(maxlen=self.LATELY)

    def tree(self, low: Imagined, belief: Belief, objective: RolloutObjective, more: int) -> Nodes:
        """The tree of a belief under an objective, for one search alone until it is given back; with room for so many
        more nodes."""
        with self._lock:
            tree = self._trees.pop(id(belief.logits), None)
        # Room also for later iterations: memory that is not used costs nothing.
        room = max(more, min(ITERATIONS * more, MOST_NODES))
        if tree is not None and same(tree.belief, belief) and same(tree.objective, objective):
            tree.belief = belief
            if tree.count + more <= MOST_NODES:
                if tree.count + more > tree.room:
                    tree.make_room(tree.count + room)
                return tree
        return Nodes(low, belief, objective, tree=True, more=room)

    def straight(
        self, low: Imagined, belief: Belief, objective: RolloutObjective, rows: int, steps: int
    ) -> Nodes:
        """Nodes for so many candidates that share nothing: those of the same search's last iteration, or new ones."""
        found = None
        with self._lock:
            for nodes in self._straight:
                if nodes.fits(rows, steps) and nodes.belief.logits() is belief.logits:  # type: ignore[operator]
                    found = nodes
                    self._straight.remove(nodes)
                    break
        if found is not None and same(found.belief, belief) and same(found.objective, objective):
            found.belief = belief
            return found
        return Nodes(low, belief, objective, tree=False, more=2 * rows)

    def give_back(self, nodes: Nodes) -> None:
        """Keep a tree for as long as its belief is alive elsewhere, other nodes until there are newer ones."""
        belief = nodes.belief
        key = id(belief.logits)
        nodes.belief = belief._replace(
            logits=weakref.ref(belief.logits)
        )  # else it would live as long as they
        if not nodes.tree:
            with self._lock:
                self._straight.append(nodes)
            return
        weakref.finalize(belief.logits, self._trees.pop, key, None)
        with self._lock:
            self._trees[key] = nodes


def same(one: Any, other: Any) -> bool:
    """Whether two tuples hold the same numbers."""
    return one is other or all(map(_same, one, other))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, weakref.ref):
        return one() is other
    if one is other:
        return True
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and same(one, other)
    return not isinstance(one, np.ndarray | None) and bool(one == other)
