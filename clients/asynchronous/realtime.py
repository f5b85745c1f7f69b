"""A control loop that keeps time: an action at every tick, whether or not the service answered."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self

from clients import results
from clients.asynchronous.carrier import AsyncCarrier
from clients.asynchronous.waiting import Background, Lock, Signal, sleep
from clients.errors import (
    BusyError,
    ClientError,
    ConnectionLostError,
    DeadlinePassedError,
    NotConnectedError,
    ServerFailedError,
    StepConflictError,
)
from clients.pacing import SOURCES, Pacer, Request, Source, Tick, check_options
from clients.retries import Retries

log = logging.getLogger(__name__)

QUICK = Retries(attempts=2, total_s=1.0, first_pause_s=0.02, longest_pause_s=0.1)
"""an observation is soon too old to be sent once more"""
PASSING = (
    BusyError,
    ConnectionLostError,
    DeadlinePassedError,
    NotConnectedError,
    ServerFailedError,
    StepConflictError,
)
"""failures after which the loop goes on by itself"""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.5
"""between two looks whether the service is back"""


class AsyncActing(Protocol):
    """What a loop needs of its session."""

    step: int
    last: results.Decision | None
    _client: AsyncCarrier

    async def decide(
        self,
        observation: Any,
        *,
        reward: float | None = None,
        is_first: bool | None = None,
        executed_action: results.Action | None = None,
        planner: Mapping[str, Any] | None = None,
        include: Sequence[str] = (),
    ) -> results.Decision:
        """The action with its plan."""

    async def refresh(self) -> results.SessionInfo:
        """Reads the session from the server, its step included."""


class AsyncRealtime:
    """See :meth:`AsyncSession.realtime`. Made for one caller: one loop, one robot."""

    def __init__(
        self,
        session: AsyncActing,
        *,
        hz: float,
        tail: int = 8,
        hold: results.Action | None = None,
        answer_within: float = 0.8,
        on_exhausted: Callable[[int], None] | None = None,
        planner: Mapping[str, Any] | None = None,
        delay: Callable[[], float] | None = None,
    ) -> None:
        check_options(hz, tail, answer_within)
        self.period_s = 1.0 / float(hz)
        """s between two ticks"""
        self.counts: dict[Source, int] = dict.fromkeys(SOURCES, 0)
        """ticks by the source of their action"""
        self.overruns = 0
        """ticks that had passed before ``next_tick`` was asked for them"""
        self.connected = True
        """whether the last request was answered"""
        self._session = copy.copy(session)  # it stands where the session stands, and asks less patiently
        self._session._client = copy.copy(session._client)
        self._session._client.connection = replace(session._client.connection, retries=QUICK)
        self._pacer = Pacer(tail=tail, hold=hold, on_exhausted=on_exhausted)
        self._within_s = float(answer_within) * self.period_s
        self._planner, self._delay = planner, delay
        self._guard, self._wake, self._news = Lock(), Signal(), Signal()
        self._worker: Background | None = None
        self._over = False
        self._failure: Exception | None = None
        self._next: float | None = None

    async def __aenter__(self) -> Self:
        self._worker = Background(self._work)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        self._wake.set()
        if self._worker is not None:
            await self._worker.end()

    async def act(self, observation: Any, *, reward: float = 0.0, is_first: bool = False) -> Tick:
        """The action for now: waits for the answer, but no longer than the tick allows.

        The first action of an episode is waited for as long as it takes, unless ``hold`` says what to do meanwhile.

        Args:
            observation: of this tick. One that cannot be sent before the next comes is dropped.
            reward: since the last tick; what belongs to dropped observations is sent with the next one.
            is_first: whether an episode begins: plans of the one before are forgotten.

        Raises:
            ClientError: what does not pass by itself: the session is gone, the key is wrong, the observation misshapen.
        """
        if self._worker is None or self._over:
            raise RuntimeError("use it as a context manager: with session.realtime(hz=20) as loop: ...")
        until = time.monotonic() + self._within_s
        async with self._guard:
            self._pacer.observed(observation, reward, is_first)
        self._wake.set()
        while True:
            async with self._guard:
                if self._failure is not None:
                    raise self._failure
                left = until - time.monotonic()
                if self._pacer.in_time or (left <= 0 and not self._pacer.at_a_loss):
                    tick = self._pacer.choose()
                    self.counts[tick.source] += 1
                    return tick
                wait_s = None if self._pacer.at_a_loss else left
            await self._news.wait(wait_s)

    async def next_tick(self) -> None:
        """Returns when the next tick begins. Ticks that have passed already are left out, and counted."""
        now = time.monotonic()
        due = now if self._next is None else self._next
        if due < now - self.period_s:
            missed = int((now - due) / self.period_s)
            self.overruns += missed
            due += missed * self.period_s
        if due > now:
            await sleep(due - now)
        self._next = due + self.period_s

    # -- off the loop --------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        again: Request | None = None
        while not self._over:
            async with self._guard:
                request = again or self._pacer.take()
            if request is None:
                await self._wake.wait(None)
                continue
            again, step = None, self._session.step
            try:
                decision = await self._session.decide(
                    request.observation,
                    reward=request.reward,
                    is_first=request.is_first or None,
                    executed_action=request.executed_action,
                    planner=self._planner,
                    include=("plan",),
                )
                if self._delay is not None:
                    await sleep(float(self._delay()))
            except PASSING as error:
                if await self._recover(request, error, step):
                    again = request
            except Exception as error:  # whatever it is, the caller must know
                self._failure = error
                self._news.set()
                return
            else:
                async with self._guard:
                    self._pacer.answered(request, decision)
                self._now_at(connected=True)
                self._news.set()

    async def _recover(self, request: Request, error: ClientError, step: int) -> bool:
        """Find out where the session stands, and go on from there.

        Returns:
            whether the act was done and its answer alone was lost: the same request brings it, and changes nothing.
        """
        if self.connected:
            log.warning("going on without answers: %s", error)
        self._now_at(connected=False)
        pause_s = FIRST_PAUSE_S
        while not self._over:
            try:
                await self._session.refresh()
            except PASSING:
                await sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except Exception as lasting:
                self._failure = lasting
                self._news.set()
                return False
            else:
                break
        if self._session.step == step + 1 and not isinstance(error, StepConflictError):
            self._session.step = step
            await sleep(FIRST_PAUSE_S)
            return True
        async with self._guard:
            self._pacer.lost(request)
        return False

    def _now_at(self, *, connected: bool) -> None:
        if connected and not self.connected:
            log.warning("answers again, at step %s", self._session.step)
        self.connected = connected
