"""What to do at each tick of a control loop, without a clock and without a connection.

A robot acts at a fixed rate. At each tick there is an observation, and then there must be an action. It is the answer
to this observation, if that came in time (``plan``); else the action that the last plan has for now (``tail``); else,
when the plan is used up, the last action or a given one (``hold``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from clients.results import Action, Decision

Source = Literal["plan", "tail", "hold"]
SOURCES: tuple[Source, ...] = ("plan", "tail", "hold")


@dataclass(frozen=True)
class Tick:
    """What to do now, and why."""

    action: Action
    source: Source
    """``plan``: the answer to this tick's observation; ``tail``: what the last plan has for now; ``hold``: neither"""
    age: int
    """ticks since the observation that the plan was made for; 0 for ``plan``"""
    decision: Decision | None
    """the answer that the action comes from; None for ``hold``"""


@dataclass(frozen=True)
class Request:
    """What is sent for one tick."""

    tick: int
    episode: int
    observation: Any
    reward: float
    """received since the observation that was sent before"""
    is_first: bool
    done: Action | None
    """what was done last before it"""
    executed_action: Action | None = None
    """the same, where the server takes something else for it"""


class Pacer:
    """One control loop's ticks.

    Args:
        tail: actions of a plan that are used at most after the one for its own tick.
        hold: what to do when the plan is used up; None repeats the last action.
        on_exhausted: called with the ticks since the last answer, once each time the plan is used up.
    """

    def __init__(
        self,
        *,
        tail: int,
        hold: Action | None = None,
        on_exhausted: Callable[[int], None] | None = None,
    ) -> None:
        self._tail, self._hold, self._on_exhausted = tail, hold, on_exhausted
        self._now, self._episode = -1, 0
        self._unsent: Request | None = None
        self._flying = False
        self._planned: tuple[int, Sequence[Action], Decision] | None = None
        """tick of the last answer's observation, its plan, the answer"""
        self._told: Action | None = None
        """the server's last answer, which it takes for what was done; None where that is not known"""
        self._done: Action | None = None
        """what was done last"""
        self._exhausted = False

    def observed(self, observation: Any, reward: float, is_first: bool) -> None:
        """A tick begins. An observation that was not sent yet is dropped; its reward is not."""
        self._now += 1
        if is_first:
            self._episode += 1
            self._planned = self._done = None
            self._exhausted = False
        before = self._unsent
        if before is not None and not is_first:
            reward, is_first = reward + before.reward, before.is_first
        self._unsent = Request(self._now, self._episode, observation, reward, is_first, self._done)

    def take(self) -> Request | None:
        """What to send now; None where there is nothing new, or an answer is still to come."""
        if self._flying or self._unsent is None:
            return None
        request, self._unsent, self._flying = self._unsent, None, True
        differs = request.done is not None and not _same(request.done, self._told)
        return replace(request, executed_action=request.done if differs and not request.is_first else None)

    def answered(self, request: Request, decision: Decision) -> None:
        """The answer to what was taken."""
        self._flying = False
        self._told = decision.action
        if request.episode == self._episode:
            plan = decision.plan.low.actions if decision.plan and decision.plan.low else ()
            self._planned = request.tick, (decision.action, *plan[1:]), decision
            self._exhausted = False

    def lost(self, request: Request) -> None:
        """There will be no answer to what was taken. Its reward goes with the next observation."""
        self._flying = False
        self._told = None  # the server may have acted: what it takes for done is not known
        if request.episode != self._episode:
            return
        newer = self._unsent
        if newer is None:
            self._unsent = request  # to be sent again, or dropped for a newer one
        else:
            self._unsent = replace(
                newer, reward=newer.reward + request.reward, is_first=newer.is_first or request.is_first
            )

    @property
    def in_time(self) -> bool:
        """Whether this tick's observation was answered."""
        return self._planned is not None and self._planned[0] == self._now

    @property
    def at_a_loss(self) -> bool:
        """Whether there is nothing to do without an answer: no plan, nothing done before, nothing to hold."""
        return self._planned is None and self._done is None and self._hold is None

    def choose(self) -> Tick:
        """What to do at this tick; it counts as done."""
        tick = self._chosen()
        self._done = tick.action
        return tick

    def _chosen(self) -> Tick:
        since = self._now + 1 if self._planned is None else self._now - self._planned[0]
        if self._planned is not None:
            _, actions, decision = self._planned
            if since < len(actions) and since <= self._tail:
                return Tick(actions[since], "plan" if since == 0 else "tail", since, decision)
        if not self._exhausted:
            self._exhausted = True
            if self._on_exhausted is not None:
                self._on_exhausted(since)
        action = self._done if self._hold is None else self._hold
        assert action is not None, "nothing to hold: the first action of an episode is waited for"
        return Tick(action, "hold", since, None)


def check_options(hz: Any, tail: Any, answer_within: Any) -> None:
    """Of a loop.

    Raises:
        ValueError: one of them makes no sense.
    """
    if not (isinstance(hz, Real) and 0 < float(hz) < float("inf")):
        raise ValueError(f"hz: expected a rate above 0, got {hz!r}")
    if not (isinstance(tail, Integral) and int(tail) >= 0):
        raise ValueError(f"tail: expected a number of actions, 0 or more, got {tail!r}")
    if not (isinstance(answer_within, Real) and 0 < float(answer_within) <= 1):
        raise ValueError(
            f"answer_within: expected a share of a tick, above 0 and at most 1, got {answer_within!r}"
        )


def _same(one: Action | None, other: Action | None) -> bool:
    return one is not None and other is not None and np.array_equal(one, other)
