"""What anybody writes who serves a recurrent policy with a stateless framework: the same agent that the
service runs, and a table of session states. Used by both baselines; sessions end with the process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thick.agent import Agent
from thick.planning.settings import session_key
from thick.pytrees import map_arrays
from thick.runtimes.torch.agents import load_agent

CAPACITY = 1024
"""sessions of one model"""


class Policies:
    """Every model of a repository, acting for batches of sessions.

    Args:
        repository: folder ``NAME/VERSION``.
        threads: of torch.
    """

    def __init__(self, repository: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._tables = {
            entry.name: Table(load_agent(sorted(entry.iterdir())[-1]))
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
            found = self._tables[model].act(method, [requests[row] for row in rows])
            for row, action in zip(rows, found, strict=True):
                actions[row] = action
        return actions


class Table:
    """One model, and the states of its sessions in preallocated rows."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._rows: dict[str, int] = {}
        self._steps: dict[str, int] = defaultdict(int)
        self._states = agent.initial(CAPACITY)
        self._settings = {
            method: agent.settings({"method": method}) for method in ("policy", "flat") if agent.has(method)
        }

    @torch.inference_mode()
    def act(self, method: str, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        ids = [request["session_id"] for request in requests]
        at = torch.tensor([self._rows.setdefault(each, len(self._rows)) for each in ids])
        steps = [self._steps[each] for each in ids]
        keys = torch.tensor([session_key(0, step) for step in steps])
        state = self.agent.observe(
            map_arrays(lambda rows: rows[at], self._states),
            torch.from_numpy(np.stack([request["observation"] for request in requests])),
            is_first=torch.tensor([step == 0 for step in steps]),
            keys=keys,
        )
        output = self.agent.act(state, self._settings[method], keys=keys)

        def store(rows: Tensor, new: Tensor) -> Tensor:
            rows[at] = new
            return rows

        map_arrays(store, self._states, output.state)
        for each in ids:
            self._steps[each] += 1
        return self.agent.decode_action(output.action)
