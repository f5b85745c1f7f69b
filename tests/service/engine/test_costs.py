"""The engine's idea of what planning costs."""

from __future__ import annotations

import pytest

from service.engine.costs import KNOWN, CostModel


def test_what_was_never_seen_is_assumed_to_be_quick() -> None:
    costs = CostModel()
    costs.record("model", "slow").slice_took(1, 0, 5.0)
    assert costs.record("model", "new").next_slice(1, 0) == 0.0
    assert costs.record("other", "slow").next_slice(1, 0) == 0.0
    assert costs.total("model", "slow") is None


def test_the_first_time_counts_for_less() -> None:
    costs = CostModel()
    costs.record("model", "flat").slice_took(1, 0, 1.0)
    assert costs.record("model", "flat").next_slice(1, 0) == pytest.approx(0.25)


def test_a_hiccup_is_outvoted() -> None:
    costs = CostModel()
    for seconds in (0.01, 3.0, 0.01, 0.01):
        costs.record("model", "flat").slice_took(1, 0, seconds)
    assert costs.record("model", "flat").next_slice(1, 0) == pytest.approx(0.01)


def test_a_machine_that_became_slower_is_believed() -> None:
    costs = CostModel()
    for seconds in [0.01] * 7 + [0.1] * 4:
        costs.record("model", "flat").slice_took(1, 0, seconds)
    assert costs.record("model", "flat").next_slice(1, 0) == pytest.approx(0.1)


def test_a_larger_batch_is_assumed_to_cost_its_share_more() -> None:
    costs = CostModel()
    for _ in range(3):
        costs.record("model", "flat").slice_took(2, 0, 0.01)
    assert costs.record("model", "flat").next_slice(7, 0) == pytest.approx(0.04)
    assert costs.record("model", "flat").next_slice(1, 0) == pytest.approx(0.01)


def test_a_search_that_is_held_back_is_tried_again_some_time() -> None:
    costs = CostModel()
    for _ in range(3):
        costs.record("model", "flat").slice_took(1, 0, 1.0)
    held_back = 0
    while costs.record("model", "flat").next_slice(1, 0) > 0.5:
        costs.record("model", "flat").forgive()
        held_back += 1
    assert 5 < held_back < 50


def test_the_least_used_settings_are_forgotten_first_and_an_unloaded_model_wholly() -> None:
    costs = CostModel()
    for number in range(KNOWN + 1):
        costs.record("model", number).plan_took(1, 1.0)
    assert costs.total("model", 0) is None and costs.total("model", KNOWN) is not None
    costs.forget("model")
    assert costs.total("model", KNOWN) is None
