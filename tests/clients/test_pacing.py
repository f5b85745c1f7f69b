"""A control loop's ticks, without a clock: which action, from where, and what the server is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clients.pacing import Pacer, Request, Tick
from clients.results import Decision, LowPlan, Plan


def decision(*actions: Any) -> Decision:
    return Decision("s", 0, actions[0], plan=Plan("flat", low=LowPlan(actions)))


def seen(pacer: Pacer, observation: Any = "o", reward: float = 0.0, first: bool = False) -> Request | None:
    pacer.observed(observation, reward, first)
    return pacer.take()


def told(tick: Tick) -> tuple[Any, str, int]:
    return tick.action, tick.source, tick.age


def test_an_answer_in_time_is_what_is_done() -> None:
    pacer = Pacer(tail=8)
    request = seen(pacer, first=True)
    assert request is not None and request.is_first and pacer.at_a_loss
    pacer.answered(request, decision(3, 1))
    assert pacer.in_time and told(pacer.choose()) == (3, "plan", 0)


def test_a_late_answer_is_made_up_for_by_the_plans_next_actions_and_then_held() -> None:
    spent: list[int] = []
    pacer = Pacer(tail=8, on_exhausted=spent.append)
    request = seen(pacer)
    assert request is not None
    pacer.answered(request, decision(3, 1, 2))
    pacer.choose()
    for expected in [(1, "tail", 1), (2, "tail", 2), (2, "hold", 3), (2, "hold", 4)]:
        pacer.observed("o", 0.0, False)
        assert not pacer.in_time and told(pacer.choose()) == expected
    assert spent == [3]


def test_the_tail_is_bounded_and_what_is_held_can_be_said() -> None:
    pacer = Pacer(tail=1, hold=0)
    request = seen(pacer)
    assert request is not None
    pacer.answered(request, decision(3, 1, 2))
    found = [told(pacer.choose())]
    for _ in range(2):
        pacer.observed("o", 0.0, False)
        found.append(told(pacer.choose()))
    assert found == [(3, "plan", 0), (1, "tail", 1), (0, "hold", 2)]


def test_while_an_answer_is_due_nothing_is_sent_and_then_only_the_newest() -> None:
    pacer = Pacer(tail=8)
    flying = seen(pacer, "first")
    assert flying is not None
    assert seen(pacer, "second", reward=1.0) is None
    assert seen(pacer, "third", reward=2.0) is None
    pacer.answered(flying, decision(3, 1, 2))
    assert told(pacer.choose()) == (2, "tail", 2)  # what the plan for the first observation has for now
    request = pacer.take()
    assert request is not None
    assert (request.observation, request.reward) == ("third", 3.0)
    assert pacer.take() is None


def test_the_server_is_told_what_was_done_where_it_is_not_what_it_answered() -> None:
    pacer = Pacer(tail=8)
    request = seen(pacer)
    assert request is not None
    pacer.answered(request, decision(3, 1))
    pacer.choose()
    request = seen(pacer)
    assert request is not None and request.executed_action is None  # 3, as answered
    pacer.choose()  # 1, of the tail
    pacer.answered(request, decision(4, 4))  # late: the server takes 4 for done
    request = seen(pacer)
    assert request is not None and request.executed_action == 1


def test_arrays_are_compared_by_their_numbers() -> None:
    pacer = Pacer(tail=8)
    request = seen(pacer)
    assert request is not None
    pacer.answered(request, decision(np.array([0.5, 1.0])))
    pacer.choose()
    request = seen(pacer)
    assert request is not None and request.executed_action is None


def test_an_answer_of_the_episode_before_is_not_acted_on() -> None:
    pacer = Pacer(tail=8, hold=0)
    old = seen(pacer)
    assert old is not None
    pacer.observed("new", 5.0, True)
    pacer.answered(old, decision(3, 1))
    assert told(pacer.choose())[:2] == (0, "hold")
    request = pacer.take()
    assert request is not None
    assert (request.observation, request.is_first, request.reward, request.executed_action) == (
        "new",
        True,
        5.0,
        None,
    )


def test_the_start_of_an_episode_is_never_dropped() -> None:
    pacer = Pacer(tail=8, hold=0)
    flying = seen(pacer)
    assert flying is not None
    pacer.observed("start", 0.0, True)
    pacer.observed("next", 1.0, False)
    pacer.answered(flying, decision(3))
    request = pacer.take()
    assert request is not None and request.is_first and request.observation == "next"


@pytest.mark.parametrize("newer", [False, True])
def test_what_was_lost_is_sent_again_unless_there_is_something_newer(newer: bool) -> None:
    pacer = Pacer(tail=8, hold=0)
    flying = seen(pacer, "old", reward=1.0, first=True)
    assert flying is not None
    if newer:
        pacer.observed("new", 2.0, False)
    pacer.lost(flying)
    request = pacer.take()
    assert request is not None and request.is_first
    assert (request.observation, request.reward) == (("new", 3.0) if newer else ("old", 1.0))


def test_a_late_answer_is_not_taken_for_what_was_done_where_the_tail_repeats_the_answer_before() -> None:
    """What was done is compared with what the server answered last when it is told, not when it was done."""
    pacer = Pacer(tail=8)
    request = seen(pacer)
    assert request is not None
    pacer.answered(request, decision(3, 3, 3))
    pacer.choose()
    late = seen(pacer)
    assert late is not None
    assert told(pacer.choose()) == (3, "tail", 1)
    assert seen(pacer) is None  # the answer is still due
    pacer.answered(late, decision(4, 4))  # the server takes 4 for done
    request = pacer.take()
    assert request is not None and request.executed_action == 3


def test_after_a_lost_answer_the_server_is_told_what_was_done() -> None:
    """It may have acted all the same, and takes for done what nobody received."""
    pacer = Pacer(tail=8)
    request = seen(pacer)
    assert request is not None
    pacer.answered(request, decision(3, 3, 3))
    pacer.choose()
    lost = seen(pacer)
    assert lost is not None
    pacer.choose()
    pacer.lost(lost)
    request = seen(pacer)
    assert request is not None and request.executed_action == 3


def test_what_is_sent_again_says_what_had_been_done_before_it() -> None:
    """Not what was done since: that comes after its observation."""
    pacer = Pacer(tail=8, hold=0)
    request = seen(pacer)
    assert request is not None
    pacer.answered(request, decision(3, 1))
    pacer.choose()
    lost = seen(pacer)
    assert lost is not None
    assert told(pacer.choose()) == (1, "tail", 1)
    pacer.lost(lost)
    again = pacer.take()
    assert again is not None and again.executed_action == 3
