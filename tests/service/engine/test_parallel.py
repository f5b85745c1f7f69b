"""Threads and plans side by side are chosen by what they cost: soon, cheaply, and anew when that changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from service.engine.parallel import SHARE, Choice, Parallelism


def used(choice: Choice, cost: Callable[[int], float], times: int) -> list[int]:
    """The ways that were gone, where each costs what ``cost`` says."""
    gone = []
    for _ in range(times):
        way = choice.pick()
        gone.append(way)
        choice.learn(way, cost(way))
    return gone


@pytest.mark.parametrize("fast", [1, 2, 4])
def test_what_costs_least_is_taken_nearly_always(fast: int) -> None:
    choice = Choice([1, 2, 4])
    gone = Counter(used(choice, lambda way: 1.0 if way == fast else 1.5, 500))
    assert choice.best == fast and gone[fast] > 440


@pytest.mark.parametrize("slower", [1.1, 1.5, 3.0, 10.0])
def test_trials_of_what_is_slower_cost_a_small_share_of_the_time(slower: float) -> None:
    choice = Choice([1, 2])
    used(choice, lambda way: 1.0 if way == 1 else slower, 20)
    gone = used(choice, lambda way: 1.0 if way == 1 else slower, 3000)
    assert 2 in gone, "what was slower once is tried again"
    lost = sum(slower - 1.0 for way in gone if way == 2)
    assert lost / len(gone) < 1.5 * SHARE


def test_a_machine_that_gets_busy_changes_the_choice_within_a_few_slices() -> None:
    choice = Choice([1, 2])
    used(choice, lambda way: {1: 1.0, 2: 0.6}[way], 100)
    assert choice.best == 2
    gone = used(choice, lambda way: {1: 1.1, 2: 3.0}[way], 30)
    assert gone.count(2) <= 8 and gone[-10:].count(1) >= 9


def test_a_machine_that_is_free_again_is_noticed_too() -> None:
    choice = Choice([1, 2])
    used(choice, lambda way: {1: 1.0, 2: 3.0}[way], 100)
    assert choice.best == 1
    gone = used(choice, lambda way: {1: 1.0, 2: 0.6}[way], 600)
    assert gone[-50:].count(2) >= 45


def test_one_measurement_that_was_disturbed_changes_nothing() -> None:
    choice = Choice([1, 2])
    used(choice, lambda way: {1: 1.0, 2: 0.8}[way], 50)
    choice.learn(2, 50.0)
    assert choice.best == 2


def test_a_number_that_the_operator_gave_is_the_only_one() -> None:
    parallel = Parallelism(threads=3, plans_at_once=2, available=8)
    assert parallel.counts == (3,) and parallel.widest == 2
    for _ in range(20):
        assert parallel.threads("model", "settings", "low", 1) == 3
        parallel.took("model", "settings", "low", 1, 3, 1.0)
        assert parallel.width("model", "settings") == 2
    assert parallel.share("model", 2) == 3


@pytest.mark.parametrize(
    ("available", "counts"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_powers_of_two_and_all_there_are_come_into_question(available: int, counts: tuple[int, ...]) -> None:
    assert Parallelism(available=available).counts == counts


def test_a_model_uses_only_numbers_of_threads_that_give_the_same_numbers() -> None:
    parallel = Parallelism(available=8)
    parallel.allow("model", (1, 4))
    picked = set()
    for _ in range(50):
        threads = parallel.threads("model", "settings", "low", 1)
        parallel.took("model", "settings", "low", 1, threads, 1.0)
        picked.add(threads)
    assert picked == {1, 4}
    assert parallel.share("model", 2) == 4 and parallel.share("model", 3) == 1


def test_plans_go_side_by_side_where_that_is_faster_than_one_by_one() -> None:
    for together, expected in ((0.6, 2), (1.4, 1)):
        parallel = Parallelism(available=2)
        gone = []
        for _ in range(200):
            width = parallel.width("model", "settings")
            parallel.ran("model", "settings", width, together * 2.0 if width == 2 else 1.0, float(width))
            gone.append(width)
        assert Counter(gone)[expected] > 180


def test_each_phase_of_a_plan_has_threads_of_its_own() -> None:
    parallel = Parallelism(available=2)
    for _ in range(50):
        for phase, fast in (("high", 1), ("low", 2)):
            threads = parallel.threads("model", "settings", phase, 1)
            parallel.took("model", "settings", phase, 1, threads, 1.0 if threads == fast else 2.0)
    assert parallel.alone("model", "settings", "high", 1) == 1.0
    assert parallel.alone("model", "settings", "low", 4) == 4.0, "about as much for each session"
    parallel.forget("model")
    assert parallel.alone("model", "settings", "low", 1) == 0.0


def test_threads_that_share_work_as_they_are_free_are_all_used_for_one_plan_at_a_time() -> None:
    parallel = Parallelism(available=4)
    parallel.use_all("model")
    for _ in range(20):
        assert parallel.threads("model", "settings", "low", 1) == 4
        parallel.took("model", "settings", "low", 1, 4, 1.0)
        assert parallel.width("model", "settings") == 1
        parallel.ran("model", "settings", 1, 1.0, 1.0)


def test_an_operator_who_fixes_the_plans_at_once_gets_them() -> None:
    parallel = Parallelism(plans_at_once=3, available=4)
    parallel.use_all("model")
    assert parallel.width("model", "settings") == 3
