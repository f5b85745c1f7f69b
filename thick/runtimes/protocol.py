"""What a runtime is: whatever runs the arithmetic of a checkpoint, behind arrays of numpy.

An engine schedules, a runtime computes. Between them lies this protocol: observations, keys and actions are numpy
arrays, a state is opaque (whatever the runtime likes, on whatever device), and its packed form is a row of bytes
(:mod:`thick.runtimes.layout`). Nothing here needs torch, and an engine that knows only this needs none either.

One act in a batch of B sessions is

    state = rows.states(slots)                                        # [B, ...], opaque
    state = runtime.observe(state, observation, is_first=..., keys=keys)
    plan = runtime.plan(state, settings, keys=keys)
    while not plan.done:
        plan.step()                                                   # one slice: others may get their turn
    result = plan.result()
    stored = rows.keep(free_slots, result.state)                      # the same bytes go to the session store
    actions = runtime.decode_action(result.action)

Calls return when their work is done, also on a GPU, so that times mean something. What a session gets may not depend
on its batch. A call that fails raises ``ValueError`` where the request is wrong (``name: what was expected``), and
leaves states and rows as they were. Methods are called from the engine's threads, never two at a time for one plan;
several plans may run side by side (``RuntimeInfo.side_by_side``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from thick.planning.settings import PlannerSettings
from thick.runtimes.layout import Layout

State = Any
"""a batch of sessions' states, opaque: only the runtime that made it looks inside"""
Observation = np.ndarray | Mapping[str, "np.ndarray"]
"""``[B, ...]`` in the dtype of the space, or one array for each entry of a Dict"""


class BackendError(Exception):
    """A backend is not installed, or cannot run this model or on this device; the message is one line for people."""


@dataclass(frozen=True)
class RuntimeInfo:
    """What runs a model, as the API shows it."""

    backend: str
    """a name of the table of backends, such as ``torch``"""
    device: str
    """``cpu``, ``cuda:0``, …"""
    precision: str
    """type of the numbers in which candidates are imagined: fp32, bf16, …"""
    instructions: str
    """what the arithmetic is compiled for: AVX2, AVX512, NEON, or the name of the GPU"""
    side_by_side: bool
    """whether several plans may step at the same time, each on a thread of its own"""
    exact: bool = False
    """whether the numbers are the same with any number of threads, which take parts of the work as they are free"""
    any_thread: bool = False
    """whether any thread may call it, one at a time, and none has to start helpers of its own for that"""


class Step(Protocol):
    """One step of some rollouts."""

    def fields(self) -> dict[str, Any]:
        """The step by the names of the API; numpy arrays over the rollouts ``[R, ...]``, or dicts of them. Besides
        the fields of the level there are ``rollout_probability`` and ``rollout_return`` ``[R]``, so far."""


class PlanResult(Protocol):
    """The best plans so far for a batch of sessions."""

    @property
    def action(self) -> np.ndarray:
        """``[B, A]`` float32, one-hot where actions are discrete"""

    @property
    def state(self) -> State:
        """``[B, ...]`` with the plan remembered, and the action as the previous one"""

    @property
    def phase_ms(self) -> Mapping[str, float]:
        """time spent: ``high_plan_ms`` and ``low_plan_ms``"""

    def budget(self, row: int) -> dict[str, Any]:
        """``iterations_done, iterations_asked, simulations_done, simulations_asked`` of session ``row``"""

    def info(self, row: int) -> dict[str, Any]:
        """The API's ``plan`` of session ``row``, ``budget`` included; arrays are numpy"""


class AnytimePlan(Protocol):
    """Planning for a batch of sessions: ``step`` until ``done``, ``result`` whenever an answer is wanted."""

    @property
    def done(self) -> bool:
        """Whether the whole budget was used."""

    @property
    def phase(self) -> str:
        """What the next slice works on: ``high``, ``low`` or ``policy``. Slices of one phase take about the same
        time."""

    def step(self) -> None:
        """One slice: some simulations of the high level, or one iteration of the low level (some 10 ms at most)."""

    def result(self) -> PlanResult:
        """The best plans so far; valid at any time, changes nothing."""


class PonderPlan(AnytimePlan, Protocol):
    """Planning the next step of B sessions before its observation is there; the state of its result replaces the
    session's: the plan after the next observation starts from what was found."""

    @property
    def expects_change(self) -> np.ndarray:
        """``[B]`` bool, whether the context is expected to change with the last action. Where it turns out otherwise,
        what was planned is of no use."""


class Reaction(NamedTuple):
    """An act without a search, for one session."""

    action: np.ndarray
    """``[1, A]``"""
    row: np.ndarray
    """``[row_bytes]`` uint8, the packed state after it"""
    observe_s: float
    """time for the belief"""
    act_s: float
    """and for the action"""


class Reflexes(Protocol):
    """What a runtime may have besides :class:`Runtime`: acts of one session in one call, where nothing is searched."""

    def react(
        self,
        row: np.ndarray,
        observation: Observation,
        *,
        is_first: bool,
        executed_action: Any,
        settings: PlannerSettings,
    ) -> Reaction | None:
        """What observing and planning to the end come to; None where these settings or this model ask for more.

        Args:
            row: ``[row_bytes]`` uint8, the packed state before; stays as it is.
            observation: without a batch dimension.
            executed_action: as the API gives it; None for the agent's own last action.

        Raises:
            ValueError: as ``observe``.
        """


class Rows(Protocol):
    """Packed states of live sessions, wherever the runtime keeps them: in the memory of the host or of a GPU.

    The engine counts which rows are free; a row is written once and then read until it is free again.
    """

    @property
    def capacity(self) -> int:
        """How many rows there are."""

    def grow(self, capacity: int) -> None:
        """Make room for more; rows that are there keep their places."""

    def keep(self, at: Sequence[int], state: State) -> np.ndarray:
        """Pack a batch of states into rows ``at`` and return the same bytes, ``[B, row_bytes]`` uint8."""

    def write(self, at: Sequence[int], rows: np.ndarray) -> None:
        """Put packed states ``[B, row_bytes]`` uint8 into rows ``at``, as a store or an exported belief has them."""

    def read(self, at: Sequence[int]) -> np.ndarray:
        """A copy of rows ``at``, ``[B, row_bytes]`` uint8."""

    def states(self, at: Sequence[int]) -> State:
        """The states in rows ``at``, which stay as they are."""


@dataclass(frozen=True)
class DreamtStep:
    """One step of D dreams, in numpy."""

    rows: np.ndarray
    """``[D, row_bytes]`` uint8, the dreams after it"""
    reward: np.ndarray
    """``[D]`` float32"""
    continuation: np.ndarray
    """``[D]`` float32, probability that the episode goes on"""
    terminated: np.ndarray
    """``[D]`` bool"""
    gates_open: np.ndarray
    """``[D]`` int64"""
    value: np.ndarray | None
    """``[D]`` float32, by the critic; None where it was not asked for, or there is none"""
    observation: Observation | None
    """``[D, ...]`` decoded; None where it was not asked for"""


class Dreams(Protocol):
    """A checkpoint stepped as an environment. A dream is a packed row; D of them are stepped in one batch, and what one
    of them gets does not depend on the others."""

    layout: Layout
    """how a dream is packed"""

    def of(self, state: State) -> np.ndarray:
        """Dreams ``[B, row_bytes]`` that go on from sessions' states, after :meth:`Runtime.observe`."""

    def sessions(self, rows: np.ndarray) -> State:
        """The opposite of :meth:`of`: states that imagine as from there; nothing is planned."""

    def begin(self, keys: np.ndarray, *, sample: bool) -> np.ndarray:
        """Dreams ``[D, row_bytes]`` from the model's own start, drawn with ``keys`` ``[D]`` int64; its most likely one
        without ``sample``."""

    def step(
        self,
        rows: np.ndarray,
        actions: np.ndarray,
        *,
        keys: np.ndarray,
        sample: bool,
        include: Collection[str],
    ) -> DreamtStep:
        """The step after actions ``[D, A]`` float32 (:meth:`Runtime.encode_action`).

        Args:
            keys: ``[D]`` int64, randomness of this step of each dream.
            sample: draw what comes; otherwise the most likely comes.
            include: ``observation``, ``value``.
        """

    def observations(self, rows: np.ndarray) -> Observation:
        """What dreams look like, ``[D, ...]``."""


class Runtime(Protocol):
    """A checkpoint that can be observed with, planned with, imagined with and dreamt in."""

    info: RuntimeInfo
    layout: Layout
    """how a state is packed"""
    planner: PlannerSettings
    """defaults of planning: the manifest's, fitted to what the checkpoint has"""
    observation_space: Mapping[str, Any]
    """the space in its JSON form, as the manifest has it"""
    action_space: Mapping[str, Any]
    """likewise"""
    dreams: Dreams
    """the checkpoint as an environment"""
    high_actions: tuple[int, ...]
    """how many actions each level above the lowest has, lowest first; empty where there is none"""

    # -- settings ----------------------------------------------------------------------------------------------------

    def has(self, method: str) -> bool:
        """Whether the checkpoint can plan by a method: hierarchical, flat or policy."""

    def settings(self, changes: Mapping[str, Any]) -> PlannerSettings:
        """The defaults with some changed, checked against what the checkpoint can do.

        Raises:
            ValueError: ``planner.name: …``, a setting is unknown or wrong, or the checkpoint cannot do it.
        """

    def use_threads(self, count: int) -> None:
        """From now on, what the calling thread asks for is computed by so many threads of a CPU. The numbers that
        come out may not depend on it."""

    # -- states ------------------------------------------------------------------------------------------------------

    def initial(self, batch: int) -> State:
        """States of ``batch`` sessions before their first observation."""

    def pack(self, state: State) -> np.ndarray:
        """``[B, row_bytes]`` uint8, laid out as ``layout`` says."""

    def unpack(self, rows: np.ndarray) -> State:
        """The opposite of :meth:`pack`."""

    def take(self, state: State, rows: Sequence[int]) -> State:
        """The sub-batch of sessions ``rows``; the batch itself where that is all of it."""

    def rows(self, capacity: int) -> Rows:
        """Room for the packed states of live sessions (:class:`thick.runtimes.rows.HostRows` where the memory of the
        host will do)."""

    # -- acting ------------------------------------------------------------------------------------------------------

    def observe(
        self,
        state: State,
        observation: Observation,
        *,
        is_first: np.ndarray,
        executed_action: np.ndarray | None = None,
        executed: np.ndarray | None = None,
        keys: np.ndarray,
    ) -> State:
        """States after an observation.

        Args:
            state: ``[B, ...]``.
            observation: ``[B, ...]``.
            is_first: ``[B]`` bool, the observation begins an episode: belief and plan start anew.
            executed_action: ``[B, A]`` float32 (:meth:`encode_action`), what was really done last, where ``executed``
                ``[B]`` bool says so; elsewhere, and where there is none, it was the session's own last action.
            keys: ``[B]`` int64, where each session's randomness of this step starts
                (:func:`thick.planning.settings.session_key`).
        """

    def plan(
        self,
        state: State,
        settings: PlannerSettings,
        *,
        keys: np.ndarray,
        budget_s: float | None = None,
    ) -> AnytimePlan:
        """Start planning for every session; nothing is computed before the first ``step``.

        Args:
            state: ``[B, ...]``, after :meth:`observe`.
            settings: for all of them.
            keys: ``[B]`` int64.
            budget_s: the time that the plan will be given, if that is known.
        """

    def ponder(self, state: State, settings: PlannerSettings, *, keys: np.ndarray) -> PonderPlan:
        """Start planning the step after the next observation.

        Args:
            state: ``[B, ...]``, after an act; or the state of a result of this, which goes on with its plan.
        """

    def context_changed(self, state: State) -> np.ndarray:
        """``[B]`` bool, whether gates opened with the last observation."""

    def imagine(
        self,
        state: State,
        *,
        keys: np.ndarray,
        level: str,
        horizon: int,
        rollouts: int,
        policy: str,
        actions: Sequence[Any] | None,
        settings: PlannerSettings,
    ) -> Iterator[Step | None]:
        """Imagine from one session's state (B = 1); nothing of it changes. None is a pause within a long search, so
        that others can be served meanwhile. See :func:`thick.imagination.imagine`.

        Raises:
            ValueError: an argument is wrong or the checkpoint cannot do it. Raised at once, not at the first step.
        """

    # -- actions outside and inside ----------------------------------------------------------------------------------

    def encode_action(self, actions: Sequence[Any]) -> np.ndarray:
        """Actions as the API gives them -> ``[B, A]`` float32, one-hot where they are discrete.

        Raises:
            ValueError: an action does not belong to the action space.
        """

    def decode_action(self, action: np.ndarray) -> list[Any]:
        """``[B, A]`` -> actions as the API gives them: integers, or float32 arrays."""
