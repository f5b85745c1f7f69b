"""Candidates of a search, imagined and scored in one go (:class:`thick.planning.protocols.Rollouts`).

The kernel takes a step of many candidates at once, with the objective folded in. Where imagined states are modes and
actions are discrete, candidates that begin with the same actions share states: they are nodes of a tree of actions,
each computed once, also when a later iteration of the same search asks again. That is exact, since the bits of a
state do not depend on what it is computed with.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thick.models.beliefs import Belief
from thick.planning.protocols import RolloutObjective, Score, SoFar
from thick.runtimes.native import library as native
from thick.runtimes.native.calls import numbers, whole

if TYPE_CHECKING:
    from thick.planning.randomness import Randomness

PAUSE = 1.2e-3
"""seconds of work between two pauses, about"""
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

    def head(self, name: str, stoch: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Output of a head, ``[N, O]``."""


class Nodes:
    """States, and what the objective carries along, of so many nodes."""

    def __init__(self, low: Imagined, belief: Belief, objective: RolloutObjective, *, tree: bool) -> None:
        self.low, self.belief, self.objective, self.tree = low, belief, objective, tree
        self.sessions = batch = belief.stoch.shape[0]
        size = low.context + low.deter
        self.count = batch
        self._columns: dict[str, np.ndarray] = {
            "stoch": np.empty((batch, low.stoch), np.int64),
            "memory": np.empty((batch, size), np.float32),
            "total": np.zeros(batch, np.float32),
            "alive": np.ones(batch, np.float32),
            "credit": np.zeros(batch, np.float32),
            "near": np.zeros(batch, np.uint8),
            "arrived": np.zeros(batch, np.uint8),
            "session": np.arange(batch, dtype=np.int32),
        }
        self.child = np.full((batch if tree else 0, low.action), -1, np.int64)
        self["stoch"][:] = whole(belief.stoch, (batch, low.stoch), low.classes)
        self["memory"][:, : low.context] = belief.context
        self["memory"][:, low.context :] = belief.deter
        self._goal: dict[str, np.ndarray] = {}
        if objective.goal is not None:
            self._set_goal(objective)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def _set_goal(self, objective: RolloutObjective) -> None:
        low, batch = self.low, self.sessions
        logits = numbers(self.belief.logits, (batch, low.stoch, low.classes))
        goal = numbers(np.asarray(objective.goal), logits.shape)
        packed = np.empty((batch, low.classes, native.padded(low.stoch)), np.float32)
        similar = np.empty(batch, np.float32)
        given = (native.address(x) for x in (goal, logits, packed, similar))
        native.run(native.GOAL, native.GoalRows(low.address, *given), batch, low.lead)
        threshold = numbers(np.asarray(objective.threshold), (batch,))
        self["near"][:] = similar >= threshold
        self._goal = {
            "goal": packed,
            "goal_context": numbers(np.asarray(objective.context), (batch, low.context)),
            "distance": numbers(np.asarray(objective.distance), (batch,)),
            "least": threshold,
            "ends": np.ascontiguousarray(objective.ends, np.uint8),
        }

    def make_room(self, count: int) -> None:
        """Room for so many nodes."""
        have = len(self["stoch"])
        if count <= have:
            return
        room = max(count, have + have // 2)
        for name, column in self._columns.items():
            grown = np.empty((room, *column.shape[1:]), column.dtype)
            grown[: self.count] = column[: self.count]
            self._columns[name] = grown
        if self.tree:
            child = np.full((room, self.low.action), -1, np.int64)
            child[: self.count] = self.child[: self.count]
            self.child = child

    def job(
        self, parent: np.ndarray, node: np.ndarray, action: np.ndarray, weight: np.float32
    ) -> tuple[Any, tuple[np.ndarray, ...]]:
        """The record of a step between nodes, and what must live as long."""
        record = native.SearchRows(self.low.address)
        for name, column in self._columns.items():
            setattr(record.nodes, name, native.address(column))
        for name, array in (*self._goal.items(), ("parent", parent), ("node", node), ("action", action)):
            setattr(record, name, native.address(array))
        record.weight, record.bonus = weight, self.objective.bonus
        record.arrival = int(self.objective.arrival)
        return record, (parent, node, action)

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


class Trees:
    """Trees of actions that searches came back to: one for each belief that is still planned from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, Nodes] = {}

    def take(self, low: Imagined, belief: Belief, objective: RolloutObjective, more: int) -> Nodes:
        """The tree of a belief under an objective, for one search alone until it is given back."""
        with self._lock:
            tree = self._kept.pop(id(belief.logits), None)
        if tree is None or not same(tree.belief, belief) or not same(tree.objective, objective):
            return Nodes(low, belief, objective, tree=True)
        tree.belief = belief
        return tree if tree.count + more <= MOST_NODES else Nodes(low, belief, objective, tree=True)

    def give_back(self, tree: Nodes) -> None:
        """Keep a tree for as long as its belief is alive elsewhere."""
        key = id(tree.belief.logits)
        weakref.finalize(tree.belief.logits, self._kept.pop, key, None)
        belief = tree.belief
        tree.belief = belief._replace(
            logits=weakref.ref(belief.logits)
        )  # else it would live as long as the tree
        with self._lock:
            self._kept[key] = tree


def rollout(
    low: Imagined,
    trees: Trees,
    belief: Belief,
    candidates: np.ndarray,
    objective: RolloutObjective,
    randomness: Randomness | None,
) -> Generator[SoFar, None, Score]:
    """See :meth:`thick.planning.protocols.Rollouts.rollout`."""
    batch, count, length, size = candidates.shape
    rows = batch * count
    shared = randomness is None and not low.continuous
    steps = numbers(candidates, (batch, count, length, low.action)).reshape(rows, length, size).swapaxes(0, 1)
    if shared:
        nodes = trees.take(low, belief, objective, rows * length)
        nodes.make_room(nodes.count + rows * length)
        chosen = np.ascontiguousarray(steps.argmax(-1))
    else:
        nodes = Nodes(low, belief, objective, tree=False)
        nodes.make_room(batch + 2 * rows)
    at = np.repeat(np.arange(batch), count)
    eye = np.eye(size, dtype=np.float32)
    weight, discount = np.float32(1), np.float32(objective.discount)
    pace = Pace(low)
    for index in range(length):
        if shared:
            following, parent, node, taken = walk(nodes, at, chosen[index])
            action = eye[taken]
        else:
            parent, node = at, batch + (index % 2) * rows + np.arange(rows)
            following, action = node, np.ascontiguousarray(steps[index])
        job, alive = nodes.job(parent, node, action, weight)
        if randomness is not None:
            keys = np.ascontiguousarray(np.asarray(randomness.fold(index).keys)).view(np.uint64)
            places = np.tile(randomness.row + np.arange(count, dtype=np.int64), batch)
            job.keys, job.draw = native.address(keys), native.address(places)
            alive = (*alive, keys, places)
        done = 0
        while done < len(parent):
            if pace.due:
                pace.paused()
                yield SoFar(index, partial(nodes.score, at, index, weight))
            part = pace.rows(len(parent) - done)
            pace.run(job, done, part)
            done += part
        at, weight = following, weight * discount
    if shared:
        trees.give_back(nodes)
    return nodes.score(at, length, weight)


def walk(nodes: Nodes, at: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, ...]:
    """Where candidates at nodes ``at`` go by ``action``, and the new nodes on the way: parents, nodes, actions."""
    following, total = at.copy(), np.array([nodes.count], np.int64)
    made = [np.empty(len(at), np.int64) for _ in range(3)]
    new = native.library().thick_walk(
        len(at),
        nodes.low.action,
        native.address(action),
        native.address(following),
        native.address(nodes.child),
        native.address(total),
        len(nodes.child),
        *(native.address(array) for array in made),
    )
    assert new >= 0, "room was made for every candidate"
    nodes.count = int(total[0])
    return (following, *(array[:new] for array in made))


class Pace:
    """How many rows fit between two pauses, from how long rows took so far. Changes no bit."""

    def __init__(self, low: Imagined) -> None:
        self._low, self._since = low, 0.0

    @property
    def due(self) -> bool:
        """Whether so much was done that others should have their turn."""
        return self._since >= PAUSE

    def paused(self) -> None:
        """They had it."""
        self._since = 0.0

    def rows(self, left: int) -> int:
        """Rows to compute next."""
        most = max(native.ROWS, int((PAUSE - self._since) / self._low.seconds_per_row))
        return min(left, -(-most // native.ROWS) * native.ROWS)

    def run(self, job: Any, first: int, rows: int) -> None:
        """Compute them."""
        low, began = self._low, time.thread_time()
        native.run(native.SEARCH, job, rows, low.lead, first=first)
        took = time.thread_time() - began  # not the time that other programs took
        self._since += took
        low.seconds_per_row += 0.2 * (max(took / rows, 1e-8) - low.seconds_per_row)


def same(one: Any, other: Any) -> bool:
    """Whether two tuples hold the same numbers."""
    return all(map(_same, one, other))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, weakref.ref):
        return one() is other
    if one is other:
        return True
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return not isinstance(one, np.ndarray | None) and bool(one == other)
