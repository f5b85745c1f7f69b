"""Candidates of a search, imagined and scored in one go (:class:`thick.planning.protocols.Rollouts`).

The kernel takes as many steps of as many candidates as fit between two pauses, with the objective folded in. Where
imagined states are modes and actions are discrete, candidates that begin with the same actions share states: they are
nodes of a tree of actions, each computed once, also when a later iteration of the same search asks again. Where states
are drawn they share the first step, but for the draw. That is exact, since the bits of a state do not depend on what it
is computed with.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thick.models.beliefs import Belief
from thick.planning.protocols import RolloutObjective, Score, SoFar
from thick.runtimes.native import library as native
from thick.runtimes.native.calls import numbers
from thick.runtimes.native.nodes import Imagined, Kept, Nodes, Steps

if TYPE_CHECKING:
    from thick.planning.randomness import Randomness

PAUSE = 1.4e-3
"""seconds of work between two pauses, about"""


def rollout(
    low: Imagined,
    kept: Kept,
    belief: Belief,
    candidates: np.ndarray,
    objective: RolloutObjective,
    randomness: Randomness | None,
) -> Generator[SoFar, None, Score]:
    """See :meth:`thick.planning.protocols.Rollouts.rollout`."""
    pace = Pace(low)
    batch, count, length, _ = candidates.shape
    rows = batch * count
    tried = numbers(candidates, (batch, count, length, low.action)).reshape(rows, length, low.action)
    if randomness is None and not low.continuous:
        nodes = kept.tree(low, belief, objective, rows * length)
        steps = walk(nodes, tried)
    else:
        nodes = kept.straight(low, belief, objective, rows, length)
        steps = nodes.straight(tried)
    weight = np.full(length + 1, objective.discount, np.float32)
    weight[0] = 1
    weight = np.cumprod(weight, dtype=np.float32)
    keys, draw = None, 0
    if randomness is not None:
        keys = np.ascontiguousarray(randomness.folds(length)).view(np.uint64)
        draw = randomness.row
    job = nodes.job(steps, weight, keys, draw)
    done, index, at, ends = 0, 0, native.address(steps.ends), steps.ends.tolist()
    pace.begin()
    while done < ends[-1]:
        while ends[index] <= done:
            index += 1  # steps that are complete
        if pace.due:
            pace.paused()
            yield SoFar(index, partial(nodes.score, steps.path[index], index, weight[index]))
        begin = ends[index - 1] if index else 0
        part = pace.rows(ends[index] - begin, ends[index] - done, ends[-1] - done)
        pace.run(job, done, part, at, whole=done >= ends[0] or not job.begun)
        done += part
    score = nodes.score(steps.path[-1], length, weight[-1])
    kept.give_back(nodes)
    return score


def walk(nodes: Nodes, tried: np.ndarray) -> Steps:
    """The steps of candidates in a tree: only those to nodes that it did not have."""
    rows, length, size = tried.shape
    total = np.array([nodes.count], np.int64)
    parent, node, chosen = (np.empty(rows * length, np.int64) for _ in range(3))
    ends, path = np.empty(length, np.int64), np.empty((length + 1, rows), np.int64)
    path[0] = np.repeat(np.arange(nodes.sessions), rows // nodes.sessions)
    arrays = (tried, nodes.child, total, parent, node, chosen, ends, path)
    native.library().thick_walk(rows, length, size, *map(native.address, arrays))
    nodes.count = int(total[0])
    return Steps(ends, parent, node, chosen, tried, path)


class Pace:
    """How many rows fit between two pauses, from how long rows took so far. Changes no bit."""

    def __init__(self, low: Imagined) -> None:
        self._low, self._since, self._began = low, 0.0, time.thread_time()
        self._lead, self._tile = low.lead, low.tile

    def begin(self) -> None:
        """What came before the first rows counts, too."""
        self._since = min(time.thread_time() - self._began, PAUSE / 2)

    @property
    def due(self) -> bool:
        """Whether so much was done that others should have their turn."""
        return self._since >= 0.7 * PAUSE

    def paused(self) -> None:
        """They had it."""
        self._since = 0.0

    def rows(self, step: int, left_of_step: int, left: int) -> int:
        """Rows to compute next: even parts of a step, or several steps where these are short."""
        most = max(native.ROWS, int((PAUSE - self._since) / self._low.seconds_per_row))
        if most >= step:
            return min(left, most // native.ROWS * native.ROWS)
        parts = -(-left_of_step // int(1.1 * most))
        part = -(-left_of_step // parts)
        return min(left_of_step, part + -part % (native.ROWS // 2))

    def run(self, job: Any, first: int, rows: int, ends: int, *, whole: bool) -> None:
        """Compute them; ``whole`` says whether all of each row's step is, else others take longer than these."""
        low, began = self._low, time.thread_time()
        native.run(native.SEARCH, job, rows, self._lead, first=first, tile=self._tile, ends=ends)
        took = time.thread_time() - began  # not the time that other programs took
        self._since += took
        more = max(took / rows, 1e-8) - low.seconds_per_row
        low.seconds_per_row += 0.2 * (more if whole else max(more, 0.0))
