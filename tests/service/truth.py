"""What sessions must answer, computed by an agent alone: no engine, no slots, no batches, no store."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from thick.agent import Agent, AgentState
from thick.planning.settings import session_key


@dataclass(frozen=True)
class Truth:
    """One session. Acting gives a new one, so that a fork is the same object."""

    agent: Agent
    seed: int
    planner: dict[str, Any]
    state: AgentState
    step: int = 0
    first: bool = True
    answered: Any = None
    """the last request and its action, which a retry gets again"""
    inherited: Any = None
    """the last request of the session that this one was copied from, which is not answered here"""

    @classmethod
    def of(cls, agent: Agent, seed: int, planner: dict[str, Any]) -> Truth:
        """A new session."""
        return cls(agent, seed, planner, agent.initial(1))

    def act(self, request: dict[str, Any]) -> Truth:
        """The session after a request with ``observation``, ``is_first``, ``executed_action``, ``planner``."""
        agent, keys = self.agent, torch.tensor([session_key(self.seed, self.step)])
        executed = request.get("executed_action")
        state = agent.observe(
            self.state,
            torch.from_numpy(request["observation"])[None],
            is_first=torch.tensor([self.first or bool(request.get("is_first"))]),
            executed_action=None if executed is None else agent.encode_action([executed]),
            keys=keys,
        )
        settings = agent.settings({**self.planner, **request.get("planner", {})})
        output = agent.act(state, settings, keys=keys)
        (action,) = agent.decode_action(output.action)
        return dataclasses.replace(
            self,
            state=output.state,
            step=self.step + 1,
            first=False,
            answered=(request, np.asarray(action)),
        )

    def reset(self) -> Truth:
        """The session before its next episode."""
        return Truth.of(self.agent, self.seed, self.planner)

    def copy(self, seed: int | None = None) -> Truth:
        """A session with the same belief, which has answered nothing yet."""
        last = self.inherited if self.answered is None else self.answered[0]
        return dataclasses.replace(
            self, seed=self.seed if seed is None else seed, answered=None, inherited=last
        )
