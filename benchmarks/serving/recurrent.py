"""What anybody writes who serves a recurrent policy with a stateless framework: the same agent that the
service runs, and a table of session states. Used by both baselines; sessions end with the process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thick.planning.settings import PlannerSettings, session_key
from thick.runtimes.backends import open_runtime
from thick.runtimes.protocol import PlanResult, Runtime, State

CAPACITY = 1024
"""sessions of one model"""


class Policies:
    """Every model of a repository, acting for batches of sessions.

    Args:
        repository: folder ``NAME/VERSION``.
        threads: of the runtimes.
    """

    def __init__(self, repository: Path, threads: int) -> None:
        self._threads = threads
        self._tables = {
            entry.name: Table(open_runtime(sorted(entry.iterdir())[-1]))
            for entry in sorted(repository.iterdir())
            if entry.is_dir()
        }

    def act(self, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The actions of a batch of requests, each with session_id, model, method, observation (an array)."""
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for row, request in enumerate(requests):
            groups[request["model"], request["method"]].append(row)
        actions: list[Any] = [None] * len(requests)
        for (model, method), rows in groups.items():
            self._tables[model].runtime.use_threads(self._threads)
            found = self._tables[model].act(method, [requests[row] for row in rows])
            for row, action in zip(rows, found, strict=True):
                actions[row] = action
        return actions


class Table:
    """One model, and the states of its sessions in preallocated rows."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._places: dict[str, int] = {}
        self._steps: dict[str, int] = defaultdict(int)
        self._rows = runtime.rows(CAPACITY)
        self._settings = {
            method: runtime.settings({"method": method})
            for method in ("policy", "flat")
            if runtime.has(method)
        }

    def act(self, method: str, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Their actions, one step further."""
        ids = [request["session_id"] for request in requests]
        fresh = [each for each in ids if each not in self._places]
        for each in fresh:
            self._places[each] = len(self._places)
        if fresh:
            self._rows.keep([self._places[each] for each in fresh], self.runtime.initial(len(fresh)))
        at = [self._places[each] for each in ids]
        seen = np.stack([request["observation"] for request in requests])
        result = acted(
            self.runtime,
            self._rows.states(at),
            seen,
            [self._steps[each] for each in ids],
            self._settings[method],
        )
        self._rows.keep(at, result.state)
        for each in ids:
            self._steps[each] += 1
        return self.runtime.decode_action(result.action)


def acted(
    runtime: Runtime, state: State, seen: np.ndarray, steps: Sequence[int], settings: PlannerSettings
) -> PlanResult:
    """Observe and plan to the end.

    Args:
        state: ``[B, ...]`` before the observation.
        seen: ``[B, ...]``.
        steps: how many acts each session has behind it.
    """
    keys = np.array([session_key(0, step) for step in steps], np.int64)
    state = runtime.observe(state, seen, is_first=np.array([step == 0 for step in steps]), keys=keys)
    planning = runtime.plan(state, settings, keys=keys)
    while not planning.done:
        planning.step()
    return planning.result()
