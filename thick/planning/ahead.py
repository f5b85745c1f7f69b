"""A search over jumps where asking the model costs far more than the jumps: several levels of a tree in one call.

The states stay where the model is. What a search sees are their places and numbers on the host, so that it counts,
selects and carries back without asking. It asks when it comes to a state whose jumps are not known yet, and then learns
those of its siblings and children, too: a search that went there will soon look at them. The tree that it finds
is the one it would find without.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from thick.arrays import Array, of
from thick.planning.protocols import HighModel, JumpState, Lookahead, Node

LEVELS = 3
"""levels of a call at most"""
FAMILY = 2
"""how far back the jump lies that states which are looked at together share"""


class Place(NamedTuple):
    """A state as the search knows it; numpy arrays with leading dimensions ``[*B]``."""

    place: np.ndarray
    """[*B] int64, its number"""
    elapsed: np.ndarray
    """[*B] float32, steps of the jump that led there (0 at the root)"""


class AheadModel:
    """What :class:`thick.planning.jumps.JumpModel` is, over places, for a model with
    :class:`~thick.planning.protocols.Lookahead`.

    Args:
        high, stoch, context, critic: see there.
    """

    def __init__(self, high: Any, stoch: Array, context: Array, *, critic: bool = True) -> None:
        known: HighModel = high
        self._high: Lookahead = high
        self.critic = critic and known.has_critic
        self._batch, self._actions = stoch.shape[0], known.actions
        xp = self._xp = of(stoch)
        reward, _ = known.outcome(stoch, context)
        self._states = [xp.copy(x) for x in (stoch, context, reward)]
        """of places whose jumps nobody looked at yet, ``[places, ...]``; others hold anything"""
        self._count = self._batch
        places = self._batch
        self._row = np.full(places, -1, np.int64)
        """where a place's numbers are; -1 where its jumps were not looked at"""
        self._family = np.arange(places)
        """the first of the places that are looked at together"""
        self._size = np.ones(places, np.int64)
        """how many these are"""
        self._tables: dict[str, np.ndarray] = {}
        self._rows = 0

    def root(self) -> Place:
        """The present state."""
        return Place(np.arange(self._batch), np.zeros(self._batch, np.float32))

    def evaluate(self, state: Place) -> Node:
        """Where each high-level action leads."""
        places = state.place
        if places.size == 1:  # a view costs less than an index
            row = int(self._row[places.item()])
            if row < 0:
                self._look(places.reshape(1))
                row = int(self._row[places.item()])
            rows: Any = slice(row, row + 1) if places.shape == (1,) else np.full(places.shape, row)
        else:
            unknown = places[self._row[places] < 0]
            if unknown.size:
                self._look(unknown)
            rows = self._row[places]
        tables = self._tables
        return Node(
            tables["prior"][rows],
            tables["value"][rows],
            tables["reward"][rows],
            tables["discount"][rows],
            Place(tables["children"][rows], tables["elapsed"][rows]),
        )

    def _look(self, unknown: np.ndarray) -> None:
        """Ask for the families of places ``[M]``, and note their siblings and children."""
        families = np.unique(self._family[unknown])
        sizes = self._size[families]
        room = self._high.rows // self._actions
        if int(sizes.sum()) > room:  # too many at once: themselves alone
            places = np.unique(unknown)
        else:
            members = [np.arange(first, first + size) for first, size in zip(families, sizes, strict=True)]
            places = np.concatenate(members)
            places = places[self._row[places] < 0]
        levels = 1
        while levels < LEVELS and len(places) * self._actions ** (levels + 1) <= self._high.rows:
            levels += 1
        index = self._xp.array(places)
        stoch, context, reward = (x[index] for x in self._states)
        state = JumpState(stoch, context, reward, self._xp.zeros(len(places)))
        seen = self._high.look_ahead(state, levels, critic=self.critic)
        for node in seen.nodes:
            count = len(places)
            behind = self._count + np.arange(count * self._actions)
            self._count += len(behind)
            self._grow(self._count)
            self._row[places] = self._rows + np.arange(count)
            self._note({**node, "children": behind.reshape(count, self._actions)})
            places = behind
        size = self._actions ** min(levels, FAMILY)
        self._family[places] = places[0] + np.arange(len(places)) // size * size
        self._size[places] = size
        beyond = (seen.stoch, seen.context, seen.reward)
        for mine, states in zip(self._states, beyond, strict=True):
            mine[places[0] : places[-1] + 1] = states

    def _note(self, node: dict[str, np.ndarray]) -> None:
        """Numbers of nodes ``[M, ...]``, behind those that are there."""
        count = len(node["value"])
        for name, numbers in node.items():
            table = self._tables.get(name)
            if table is None or len(table) < self._rows + count:
                room = np.empty((2 * (self._rows + count), *numbers.shape[1:]), numbers.dtype)
                if table is not None:
                    room[: self._rows] = table[: self._rows]
                table = self._tables[name] = room
            table[self._rows : self._rows + count] = numbers
        self._rows += count

    def _grow(self, count: int) -> None:
        """Room for so many places."""
        if count <= len(self._row):
            return
        more = 2 * count - len(self._row)
        self._row = np.concatenate([self._row, np.full(more, -1, np.int64)])
        self._family, self._size = (
            np.concatenate([x, np.zeros(more, np.int64)]) for x in (self._family, self._size)
        )
        self._states = [
            self._xp.concat([x, self._xp.empty_like(x, more, *x.shape[1:])]) for x in self._states
        ]
