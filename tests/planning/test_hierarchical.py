"""Two levels against one, in a corridor whose reward lies beyond the low level's horizon."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.planning.toys import END, ROOM, TOGGLE, CorridorModel, randomness
from thick import pytrees
from thick.models.beliefs import Belief
from thick.planning.actions import ActionRange, Actions
from thick.planning.memory import LevelMemory, PlanMemory, needs_search, nothing_planned, warm_sequence
from thick.planning.search import ActionSearch, FoundPlan
from thick.planning.settings import PlannerSettings

HORIZON = 5
SETTINGS = PlannerSettings(
    low="categorical-cem", samples=120, iterations=3, elites=15, horizon=HORIZON, simulations=20, settle=0
)


def actions_of(model: CorridorModel) -> Actions:
    if not model.exact.continuous:
        return Actions(3, None)
    return Actions(1, ActionRange(torch.tensor([-1.0]), torch.tensor([1.0])))


def plan(
    model: CorridorModel, settings: PlannerSettings, belief: Belief, state: PlanMemory, *keys: int
) -> FoundPlan:
    search = ActionSearch(model, actions_of(model), settings, belief, state, randomness=randomness(*keys))
    while not search.done:
        search.step()
    return search.result()


def above(done: FoundPlan) -> LevelMemory:
    """What is remembered of the high level."""
    (level,) = done.memory.levels
    return level


def walk(settings: PlannerSettings, *, steps: int, continuous: bool = False, seed: int = 0) -> list[int]:
    """Positions of an agent that plans and acts from the beginning of the corridor."""
    model = CorridorModel(continuous=continuous)
    belief = model.exact.belief(0)
    state = nothing_planned(model, actions_of(model), HORIZON, 1)
    positions = [0]
    for step in range(steps):
        done = plan(model, settings, belief, state, 1000 * seed + step)
        belief = model.exact.imagine(belief, done.action)
        state = done.memory.older()
        positions.append(int(belief.stoch.sum()))
        if positions[-1] == END:
            break
    return positions


@pytest.mark.parametrize("low", ["categorical-cem", "mcts"])
def test_two_levels_reach_a_reward_beyond_the_horizon_of_discrete_actions(low: str) -> None:
    settings = SETTINGS.updated({"low": low, "samples": 150, "iterations": 2})
    positions = walk(settings, steps=30)
    assert positions[-1] == END, positions


@pytest.mark.parametrize("low", ["cem", "icem", "mppi"])
def test_two_levels_reach_a_reward_beyond_the_horizon_of_continuous_actions(low: str) -> None:
    positions = walk(SETTINGS.updated({"low": low, "samples": 200}), steps=40, continuous=True)
    assert positions[-1] == END, positions


@pytest.mark.parametrize("high", ["mcts", "tree"])
def test_the_way_is_nearly_the_shortest(high: str) -> None:
    positions = walk(SETTINGS.updated({"high": high}), steps=40)
    assert positions[-1] == END and len(positions) - 1 <= END + 2


@pytest.mark.slow
def test_one_level_with_the_same_budget_does_not_find_it() -> None:
    for seed in range(3):
        assert max(walk(SETTINGS.updated({"method": "flat"}), steps=30, seed=seed)) < END


def test_one_level_finds_it_once_it_lies_within_the_horizon() -> None:
    model = CorridorModel()
    belief, state = (
        model.exact.belief(END - HORIZON + 1),
        nothing_planned(model, actions_of(model), HORIZON, 1),
    )
    done = plan(model, SETTINGS.updated({"method": "flat", "samples": 500}), belief, state, 1)
    assert done.sequence[0].argmax(-1).tolist()[: HORIZON - 1] == [1] * (HORIZON - 1)
    assert float(done.expected_return) > 0.3


def test_similarity_alone_hovers_at_the_first_door() -> None:
    positions = walk(SETTINGS.updated({"arrival": False}), steps=30)
    assert max(positions) == ROOM and positions[-1] == ROOM


def test_the_subgoal_is_the_state_before_the_change_with_its_action_and_context() -> None:
    model, settings = CorridorModel(), SETTINGS.updated({"simulations": 40})
    done = plan(
        model, settings, model.exact.belief(2), nothing_planned(model, actions_of(model), HORIZON, 1), 1
    )
    assert bool(done.replanned) and bool(above(done).active)
    subgoal = above(done).subgoal
    assert int(subgoal.logits.argmax(-1).sum()) == ROOM
    assert int(subgoal.action.argmax(-1)) == TOGGLE and int(subgoal.context.argmax(-1)) == 1
    assert above(done).actions[0].tolist()[:3] == [1, 1, 1]
    assert above(done).durations[0].tolist()[:3] == [5.0, 6.0, 5.0]
    assert 0.95**15 >= float(above(done).values[0, 1]) > float(above(done).values[0, 0])
    assert above(done).visits.sum() == 40 and done.simulations == (40, 40)


def test_it_searches_again_when_a_gate_opens_after_a_while_or_patience_ends() -> None:
    model = CorridorModel()
    start = nothing_planned(model, actions_of(model), HORIZON, 6)
    belief = model.exact.belief(*(2,) * 6)
    opened = torch.tensor([False, False, True, True, False, False])
    gates = opened.unsqueeze(-1).expand(-1, belief.gates.shape[1]).float()
    belief = belief._replace(levels=(belief.levels[0]._replace(gates=gates),))
    level = start.levels[0]._replace(
        active=torch.tensor([False, True, True, True, True, True]), since=torch.tensor([0, 2, 3, 4, 39, 40])
    )
    settings = PlannerSettings(settle=3, patience=40)
    assert needs_search(belief, level, settings).tolist() == [True, False, False, True, False, True]


def test_only_sessions_that_need_it_search_and_the_others_keep_their_subgoal() -> None:
    model = CorridorModel()
    first = plan(
        model, SETTINGS, model.exact.belief(2), nothing_planned(model, actions_of(model), HORIZON, 1), 1
    )
    fresh = nothing_planned(model, actions_of(model), HORIZON, 1)
    state = pytrees.map_arrays(lambda x, y: torch.cat([x, y]), first.memory, fresh)
    belief = model.exact.belief(3, ROOM + 2)
    done = plan(model, SETTINGS, belief, state, 5, 6)
    assert done.replanned.tolist() == [False, True]
    for kept, before in zip(above(done).subgoal, above(first).subgoal, strict=True):
        assert torch.equal(kept[:1], before)
    assert int(above(done).subgoal.logits[1].argmax(-1).sum()) == 2 * ROOM


@pytest.mark.parametrize(
    ("method", "low", "continuous"),
    [
        ("hierarchical", "categorical-cem", False),
        ("hierarchical", "mcts", False),
        ("flat", "categorical-cem", False),
        ("hierarchical", "cem", True),
        ("flat", "icem", True),
        ("hierarchical", "mppi", True),
    ],
)
def test_a_batch_is_exactly_its_sessions_one_by_one(method: str, low: str, continuous: bool) -> None:
    model = CorridorModel(continuous=continuous)
    settings = SETTINGS.updated({"method": method, "low": low, "samples": 40})
    belief = model.exact.belief(0, ROOM, ROOM + 3, END - 2)
    state = nothing_planned(model, actions_of(model), HORIZON, 4)
    together = plan(model, settings, belief, state, 1, 2, 3, 4)
    for row in range(4):
        part = pytrees.map_arrays(lambda x, row=row: x[row : row + 1], (belief, state))
        alone = plan(model, settings, *part, row + 1)
        rows = zip(
            leaves((alone.action, alone.memory)), leaves((together.action, together.memory)), strict=True
        )
        assert all(torch.equal(x[0], y[row]) for x, y in rows)


def leaves(tree: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    pytrees.map_arrays(lambda x: found.append(x) or x, tree)
    return found


@pytest.mark.parametrize("method", ["hierarchical", "flat"])
def test_there_is_a_valid_plan_at_any_time_and_asking_changes_nothing(method: str) -> None:
    model = CorridorModel()
    settings = SETTINGS.updated({"method": method})
    belief, state = model.exact.belief(2), nothing_planned(model, actions_of(model), HORIZON, 1)
    search = ActionSearch(model, actions_of(model), settings, belief, state, randomness=randomness(1))
    progress = []
    while not search.done:
        early = search.result()
        assert early.action.sum() == 1 and early.sequence.shape == (1, HORIZON, 3)
        assert all(bool(torch.isfinite(x).all()) for x in leaves(early.memory))
        progress.append((*early.simulations, int(early.spent.iterations[0])))
        search.step()
    assert progress == sorted(progress) and progress[0][0] == 0
    calm = plan(model, settings, belief, state, 1)
    assert all(
        torch.equal(x, y) for x, y in zip(leaves(search.result().memory), leaves(calm.memory), strict=True)
    )


def test_a_plan_that_was_never_started_goes_on_with_the_last_one() -> None:
    model = CorridorModel()
    state = nothing_planned(model, actions_of(model), HORIZON, 1)
    sequence = torch.eye(3)[torch.tensor([[0, 1, 2, 1, 0]])]
    state = state._replace(sequence=sequence, planned=torch.tensor([True]), taken=torch.tensor([1]))
    search = ActionSearch(
        model, actions_of(model), SETTINGS, model.exact.belief(2), state, randomness=randomness(1)
    )
    assert search.result().sequence[0].argmax(-1).tolist() == [1, 2, 1, 0, 0]


def test_with_little_time_the_high_level_leaves_half_of_it_to_the_low_level() -> None:
    model = CorridorModel()
    state = nothing_planned(model, actions_of(model), HORIZON, 1)
    search = ActionSearch(
        model,
        actions_of(model),
        SETTINGS.updated({"simulations": 1000}),
        model.exact.belief(2),
        state,
        randomness=randomness(1),
        budget_s=0.0,
    )
    search.step()
    search.step()
    assert 0 < search.simulations[0] < 1000 and search.iterations[0] == 1


def test_the_warm_plan_is_shifted_and_runs_out() -> None:
    state = nothing_planned(CorridorModel(), Actions(1, None), 4, 3)
    sequence = torch.arange(4.0).reshape(1, 4, 1).expand(3, -1, -1)
    state = state._replace(sequence=sequence, planned=torch.tensor([True] * 3), taken=torch.tensor([0, 2, 4]))
    warm = warm_sequence(state, 6)
    assert warm.sequence[..., 0].tolist()[:2] == [[0, 1, 2, 3, 3, 3], [2, 3, 3, 3, 3, 3]]
    assert warm.valid.tolist() == [True, True, False]


def test_planning_without_a_high_level_or_an_actor_is_refused() -> None:
    model = CorridorModel()
    state = nothing_planned(model, actions_of(model), HORIZON, 1)
    belief = model.exact.belief(0)
    with pytest.raises(ValueError, match="needs an actor"):
        ActionSearch(
            model,
            actions_of(model),
            SETTINGS.updated({"method": "policy"}),
            belief,
            state,
            randomness=randomness(1),
        )
    model.high = None
    with pytest.raises(ValueError, match="needs a high level"):
        ActionSearch(model, actions_of(model), SETTINGS, belief, state, randomness=randomness(1))


def test_a_search_for_the_other_kind_of_actions_is_refused() -> None:
    model = CorridorModel()
    state = nothing_planned(model, actions_of(model), HORIZON, 1)
    with pytest.raises(
        ValueError, match=r"'cem' needs continuous actions, .*; expected one of categorical-cem, mcts"
    ):
        plan(model, SETTINGS.updated({"low": "cem"}), model.exact.belief(0), state, 1)
