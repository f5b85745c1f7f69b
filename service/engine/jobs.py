"""What is handed to the engine and what comes back: plain records, no transport and no session in them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from service.engine.slots import SlotTable
from thick.planning.settings import PlannerSettings
from thick.runtimes.protocol import Runtime, State

Observation = np.ndarray | dict[str, np.ndarray]
"""one observation, validated against the model's space: an array, or one for each entry of a Dict"""

_ticket = itertools.count()


class QueueFull(Exception):
    """The engine has as many waiting requests as it may."""


class DeadlinePassed(Exception):
    """The request's deadline passed before its turn came."""


class EngineStopped(Exception):
    """The engine takes no more work."""


class HostedModel(Protocol):
    """What the engine needs of a loaded model (``service.models.hosted.Hosted``)."""

    @property
    def name(self) -> str:
        """What it is served as."""

    @property
    def runtime(self) -> Runtime:
        """What runs it."""

    @property
    def slots(self) -> SlotTable:
        """Where the states of its sessions lie."""


class Pondered(NamedTuple):
    """What came of planning ahead."""

    state: State
    """of the session, with a plan for its next step"""
    expects_change: bool
    """of its context"""
    spent_s: float


class Pondering(Protocol):
    """Planning ahead for a session (``service.engine.pondering.PonderTask``)."""

    def take(self) -> Pondered | None:
        """What was found so far, and the end of it; None where that is nothing. On the worker, or while it rests."""

    def cancel(self) -> None:
        """Nobody wants it any more. From any thread."""


@dataclass(eq=False, kw_only=True, slots=True)
class Job:
    """One request in the engine. ``future`` belongs to ``loop``; everything else is read by the worker."""

    model: HostedModel
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    arrived: float = field(default_factory=time.monotonic)
    """when the request reached the server, s on the monotonic clock"""
    submitted: float = field(default_factory=time.monotonic)
    """when it reached the engine"""
    deadline: float | None = None
    """when the request must be answered, s on the monotonic clock; None for as long as it takes"""
    finish_by: float | None = None
    """when the search must stop for that: before the deadline, by what follows it"""
    cancelled: bool = False
    """nobody waits for the answer any more"""
    ticket: int = field(default_factory=lambda: next(_ticket))
    """order of submission, which decides between equals"""


@dataclass(eq=False, kw_only=True, slots=True)
class ActJob(Job):
    """Observe and plan for one session."""

    slot: int
    """where the session's state lies; held by the session while the job runs"""
    session: str = ""
    """whose act it is; the engine counts how many take part"""
    observation: Observation
    is_first: bool
    executed_action: Any = None
    """what was really done last, as the API gives it; None for the server's own last action"""
    settings: PlannerSettings
    """without a seed, so that equal settings compare equal across sessions"""
    key: int
    """where this step's randomness starts: a function of the session's seed and the step"""
    want_plan: bool = False
    """whether the answer shows the plan (which decodes the subgoal)"""
    pondering: Pondering | None = None
    """what was planned ahead for this act"""
    degradable: bool = False
    """answer from the last plan without a search, rather than fail, when the deadline passed in the queue"""
    degraded: bool = False
    """that is what happened; set by the engine"""
    pondered_ms: float = 0.0
    """of planning ahead that it started from; set by the engine"""


@dataclass(frozen=True, kw_only=True)
class ActResult:
    """What acting gave. The new state lies in ``slot``, which whoever takes the result must release one
    day."""

    action: int | np.ndarray
    slot: int
    state: bytes
    """the row in ``slot``, for the session store"""
    plan: dict[str, Any] | None
    timing: dict[str, float]
    """queue_ms, observe_ms, high_plan_ms, low_plan_ms, batch_size"""
    pondered_ms: float = 0.0
    """time for which this act was planned ahead"""
    degraded: str | None = None
    """why no search was made, where the request allowed that"""


@dataclass(eq=False, kw_only=True)
class ImagineJob(Job):
    """Imagine from a state; every step is put into ``steps`` as it is made, then ``tasks.END`` or an
    error."""

    slot: int
    arguments: Mapping[str, Any]
    """keyword arguments of ``Runtime.imagine``: level, horizon, rollouts, policy, actions, settings"""
    key: int
    observation: Observation | None = None
    """observed first, where imagination starts from an observation instead of a session"""
    steps: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)


def collate(observations: Sequence[Observation]) -> np.ndarray | dict[str, np.ndarray]:
    """A batch ``[B, ...]`` out of single observations."""
    first = observations[0]
    if isinstance(first, dict):
        return {key: np.stack([each[key] for each in observations]) for key in first}  # type: ignore[index]
    return np.stack(observations)  # type: ignore[arg-type]
