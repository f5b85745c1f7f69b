"""Options that save work: a search that ends when its elites agree, fewer candidates while a plan holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.planning.test_hierarchical import HORIZON, SETTINGS, actions_of, plan
from tests.planning.toys import ROOM, CorridorModel, randomness
from thick import pytrees
from thick.models.beliefs import Belief
from thick.planning.memory import PlanMemory, nothing_planned
from thick.planning.search import ActionSearch, FoundPlan


def same(one: Any, other: Any) -> bool:
    return all(
        torch.equal(x, y) for (_, x), (_, y) in zip(pytrees.walk(one), pytrees.walk(other), strict=True)
    )


def told(found: FoundPlan) -> Any:
    return found.action, found.memory, found.sequence, found.expected_return, found.spent


@pytest.mark.parametrize(("low", "continuous"), [("categorical-cem", False), ("cem", True), ("icem", True)])
def test_a_search_ends_when_its_elites_agree_and_each_session_for_itself(low: str, continuous: bool) -> None:
    model = CorridorModel(continuous=continuous)
    settings = SETTINGS.updated({"low": low, "iterations": 12, "agreement": 0.9})
    belief, none = (
        model.exact.belief(0, ROOM, ROOM + 3),
        nothing_planned(model, actions_of(model), HORIZON, 3),
    )
    together = plan(model, settings, belief, none, 1, 2, 3)
    spent = together.spent.iterations
    assert (spent >= 1).all() and int(spent.min()) < 12
    for row in range(3):
        part = pytrees.select((belief, none), torch.tensor([row]))
        alone = plan(model, settings, *part, row + 1)
        assert same(told(alone), pytrees.select(told(together), torch.tensor([row])))
    whole = plan(model, settings.updated({"agreement": 0.0}), belief, none, 1, 2, 3)
    assert whole.spent.iterations.tolist() == [12] * 3
    assert (whole.spent.samples > together.spent.samples)[spent < 12].all()


def resting(model: CorridorModel) -> tuple[Belief, PlanMemory]:
    """Three sessions: one that follows its plan, one whose gates opened, and one without a plan."""
    belief, none = model.exact.belief(2, 2, 2), nothing_planned(model, actions_of(model), HORIZON, 3)
    memory = plan(model, SETTINGS, belief, none, 1, 1, 1).memory.older()
    fresh = pytrees.select(none, torch.tensor([2]))
    memory = pytrees.put(memory, torch.tensor([2]), fresh)
    gates = belief.gates.clone()
    gates[1] = 1.0
    return belief._replace(levels=(belief.levels[0]._replace(gates=gates),)), memory


def test_fewer_candidates_are_tried_while_a_plan_holds_whoever_else_is_in_the_batch() -> None:
    model = CorridorModel()
    settings = SETTINGS.updated({"hold": 0.25, "settle": 1000})
    belief, memory = resting(model)
    together = plan(model, settings, belief, memory, 1, 2, 3)
    assert together.replanned.tolist() == [False, False, True]
    assert together.spent.samples.tolist() == [3 * 30, 3 * 120, 3 * 120]
    for row in range(3):
        part = pytrees.select((belief, memory), torch.tensor([row]))
        alone = plan(model, settings, *part, row + 1)
        assert same(told(alone), pytrees.select(told(together), torch.tensor([row])))


def test_sessions_that_are_searched_for_differently_have_an_answer_at_any_time() -> None:
    model = CorridorModel()
    belief, memory = resting(model)
    settings = SETTINGS.updated({"hold": 0.1, "settle": 1000})
    search = ActionSearch(model, actions_of(model), settings, belief, memory, randomness=randomness(1, 2, 3))
    progress = []
    while not search.done:
        found = search.result()
        assert found.action.sum(-1).tolist() == [1.0] * 3
        progress.append(search.iterations[0])
        search.step()
    assert progress == sorted(progress) and search.iterations == (3, 3)
