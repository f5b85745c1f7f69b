"""Searches over low-level actions, recorded once for each size and replayed: a slice is one CUDA graph.

A sampling search does the same operations whatever its numbers are. So its slices are run once while torch records
them; from then on a search of the same settings and size writes its problem where the first one had it, and replays.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thick import pytrees
from thick.models.networks import AgentNetworks
from thick.planning.low import LowGiven, LowSearches
from thick.planning.sampling import SamplingSearch
from thick.planning.searches import LowSearch, Spent
from thick.planning.settings import PlannerSettings
from thick.runtimes.torch.dynamics import FrozenDynamics
from thick.runtimes.torch.graphs import SEEN, load, padded, recording, room

KEPT = 16
"""recordings of a model; the oldest are evicted first"""
AT_ONCE = 2
"""recordings of one kind, for searches that go on side by side; further ones are not recorded"""


class Answer(NamedTuple):
    """What is known after a slice; tensors are overwritten by the next replay."""

    sequence: Tensor
    """[B, H, A]"""
    expected_return: Tensor
    """[B]"""
    iterations: int
    samples: int


class Recordings:
    """What a model has recorded of its searches; see :class:`thick.planning.low.Recorder`."""

    def __init__(self) -> None:
        self._met: Counter[object] = Counter()
        self._free: dict[object, list[Recording]] = {}
        self._made: Counter[object] = Counter()

    def search(self, settings: PlannerSettings, given: LowGiven, build: LowSearches) -> LowSearch:
        """A search for the problem, replayed where one like it was met before."""
        if settings.agreement > 0 or not torch.is_inference_mode_enabled():  # ends when its numbers say so
            return build(given)
        tensors = pytrees.leaves(given)
        batch = padded(given.keys.shape[0])
        # A seed is in the keys already: sessions that differ by it alone share their recordings.
        alike = settings if settings.seed is None else settings.updated({"seed": None})
        kind = (alike, batch, *((x.shape[1:], x.dtype) for x in tensors))
        free = self._free.get(kind, [])
        if len(self._met) > 16 * KEPT:  # what was met once, long ago
            self._met.clear()
        self._met[kind] += 1
        if not free and (self._met[kind] < SEEN or self._made[kind] >= AT_ONCE):
            with recording():  # what its functions would capture for themselves is of no use later
                search = build(given)
            if not isinstance(search, SamplingSearch):
                self._met[kind] = -(1 << 60)
            return search
        if not free:
            self._made[kind] += 1
            free = self._free.setdefault(kind, [])
            free.append(Recording(given, batch, build))
            self._evict()
        taken = free.pop()
        search = RecordedSearch(taken, given)
        weakref.finalize(search, free.append, taken)
        return search

    def _evict(self) -> None:
        while len(self._made) > KEPT:
            oldest = next(iter(self._made))
            del self._made[oldest], self._free[oldest], self._met[oldest]


class Recording:
    """The graphs of a search: one that begins it, and one for each slice.

    Args:
        given: a problem.
        batch: sessions that there is room for.
        build: makes the search of a problem.
    """

    def __init__(self, given: LowGiven, batch: int, build: LowSearches) -> None:
        tensors, rebuilt = pytrees.flatten(given)
        self._inputs = room(tensors, batch)
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self.answers: list[Answer] = []
        pool = torch.cuda.graph_pool_handle()
        with recording():
            with self._graph(pool):
                search = build(rebuilt(self._inputs))
                self._answer(search)
            while not search.done:
                with self._graph(pool):
                    search.step()
                    self._answer(search)
        self.iterations_asked = search.iterations_asked
        self._search = search  # whose tensors the graphs read and write

    def _graph(self, pool: Any) -> torch.cuda.graph:
        self._graphs.append(torch.cuda.CUDAGraph())
        return torch.cuda.graph(self._graphs[-1], pool=pool, capture_error_mode="thread_local")

    def _answer(self, search: LowSearch) -> None:
        assert isinstance(search, SamplingSearch)
        sequence, expected = search.sequence().contiguous(), search.expected_return().contiguous()
        self.answers.append(Answer(sequence, expected, search.iterations_done, search.samples))

    def begin(self, given: LowGiven) -> None:
        """Take another problem."""
        load(self._inputs, pytrees.leaves(given))
        self._graphs[0].replay()

    def replay(self, index: int) -> None:
        """The slice ``index`` = 1, 2, …; those before must have been replayed."""
        self._graphs[index].replay()


class RecordedSearch:
    """A search that replays; see :class:`thick.planning.searches.LowSearch`."""

    def __init__(self, recording: Recording, given: LowGiven) -> None:
        self._recording, self._batch, self._slice = recording, given.keys.shape[0], 0
        self.iterations_asked = recording.iterations_asked
        recording.begin(given)

    @property
    def _answer(self) -> Answer:
        return self._recording.answers[self._slice]

    @property
    def iterations_done(self) -> int:
        return self._answer.iterations

    @property
    def done(self) -> bool:
        return self._slice + 1 >= len(self._recording.answers)

    def step(self) -> None:
        if not self.done:
            self._slice += 1
            self._recording.replay(self._slice)

    def sequence(self) -> Tensor:
        return self._answer.sequence[: self._batch].clone()

    def expected_return(self) -> Tensor:
        return self._answer.expected_return[: self._batch].clone()

    def spent(self) -> Spent:
        like = self._answer.expected_return[: self._batch]
        nothing = torch.zeros(like.shape, dtype=torch.int64, device=like.device)
        return Spent(nothing + self._answer.iterations, nothing + self._answer.samples)


class RecordingDynamics(FrozenDynamics):
    """A dynamics whose searches are recorded and replayed; see :class:`thick.planning.low.Recorder`."""

    def __init__(self, model: AgentNetworks, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        self._recordings = Recordings()

    def recorded(self, settings: PlannerSettings, given: LowGiven, build: LowSearches) -> LowSearch:
        """See :class:`thick.planning.low.Recorder`."""
        return self._recordings.search(settings, given, build)
