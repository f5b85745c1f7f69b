"""What a trajectory is worth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.planning.toys import END, RIGHT, ROOM, TOGGLE, Corridor, at, room_of
from thick import pytrees
from thick.models.beliefs import Belief
from thick.planning.objectives import ReturnObjective, Subgoal, SubgoalObjective
from thick.planning.protocols import Score
from thick.planning.sampling import rollout


class Script:
    """Rewards and continuations by step; the belief is the number of steps."""

    draws = 0

    def __init__(self, rewards: list[float], continuations: list[float] | None) -> None:
        self.rewards = torch.tensor(rewards)
        self.continuations = None if continuations is None else torch.tensor(continuations)

    def imagine(self, belief: Any, action: Tensor, uniforms: Tensor | None = None) -> Any:
        return (belief[0] + 1,)

    def outcome(self, belief: Any) -> tuple[Tensor, Tensor | None]:
        index = belief[0] - 1
        return self.rewards[index], None if self.continuations is None else self.continuations[index]


def worth(script: Script, **options: Any) -> Score:
    objective = ReturnObjective(script, **({"discount": 1.0} | options))
    start = (torch.zeros(1, dtype=torch.int64),)
    return rollout(script, objective, start, torch.zeros(1, 1, len(script.rewards), 2), None)


def test_without_discount_the_score_is_the_mean_reward() -> None:
    score = worth(Script([1.0, 2.0, 3.0, 6.0], None))
    assert (float(score.score), float(score.returns)) == (3.0, 12.0)


def test_rewards_are_discounted_from_the_first_step() -> None:
    assert float(worth(Script([1.0, 2.0, 4.0], None), discount=0.5).returns) == pytest.approx(1 + 1 + 1)


def test_what_follows_a_predicted_end_does_not_count_but_the_reward_of_ending_does() -> None:
    assert float(worth(Script([0.0, 1.0, 5.0], [1.0, 0.25, 1.0])).returns) == pytest.approx(1 + 0.25 * 5)


def test_the_critic_counts_at_the_horizon_discounted_and_if_the_episode_goes_on() -> None:
    options: Any = {"discount": 0.5, "critic": lambda belief: torch.full(belief[0].shape, 8.0)}
    assert float(worth(Script([1.0, 0.0], [1.0, 0.5]), **options).returns) == pytest.approx(
        1 + 0.25 * 0.5 * 8
    )


# -- subgoals ----------------------------------------------------------------------------------------------------------

CORRIDOR = Corridor()


def door(continuation: float = 1.0) -> Subgoal:
    """The first door of the corridor."""
    return Subgoal(
        Corridor.logits(at(ROOM)),
        F.one_hot(torch.tensor([TOGGLE]), 3).float(),
        room_of(torch.tensor([ROOM + 1])),
        torch.tensor([continuation]),
    )


def steer(start: int, plans: list[list[int]], subgoal: Subgoal | None = None, **options: Any) -> Tensor:
    """Credit of plans, ``[N]``: the score without the rewards (there are none before the end)."""
    belief = CORRIDOR.belief(start)
    objective = SubgoalObjective(
        ReturnObjective(CORRIDOR, discount=1.0),
        subgoal=door() if subgoal is None else subgoal,
        context=belief.context,
        kappa=1.0,
        **options,
    )
    candidates = F.one_hot(torch.tensor(plans), 3).float().unsqueeze(0)
    return rollout(CORRIDOR, objective, belief, candidates, None).score[0]


def test_similarity_is_the_mean_cosine_of_the_groups_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, goal = torch.randn(2, 1, 4, 5, generator=generator)
    subgoal = Subgoal(goal, torch.zeros(1, 3), torch.zeros(1, 0), torch.ones(1))
    objective = SubgoalObjective(
        ReturnObjective(CORRIDOR, discount=1.0), subgoal=subgoal, context=torch.zeros(1, 0), kappa=1.0
    )
    belief = Belief(torch.zeros(0), logits.unsqueeze(1), torch.zeros(0))
    expected = F.cosine_similarity(logits.softmax(-1), goal.softmax(-1), dim=-1).mean(-1)
    assert torch.allclose(objective.similarity(belief), expected, atol=1e-6)


def test_the_papers_objective_is_the_mean_reward_and_kappa_times_the_mean_similarity() -> None:
    plan = [[RIGHT, RIGHT]]
    similarity = [1 - abs(ROOM - position) / END for position in (3, 4)]
    assert float(steer(2, plan, arrival=False)) == pytest.approx(sum(similarity) / 2, abs=1e-5)


def test_without_arrival_credit_staying_at_the_subgoal_beats_going_through_it() -> None:
    stay, through = steer(ROOM, [[RIGHT, RIGHT, RIGHT], [TOGGLE, RIGHT, RIGHT]], arrival=False)
    assert stay > through


def test_with_arrival_credit_the_soonest_way_through_the_change_is_the_best() -> None:
    soon, late, never = steer(
        ROOM - 1,
        [[RIGHT, TOGGLE, RIGHT, RIGHT], [RIGHT, RIGHT, TOGGLE, RIGHT], [RIGHT, RIGHT, RIGHT, RIGHT]],
        bonus=1.0,
    )
    assert soon > late > never
    assert float(soon) == pytest.approx((1 + 2 + 2 + 2) / 4, abs=1e-4)
    assert float(never) == pytest.approx(1.0, abs=1e-4)


def test_a_change_that_is_possible_right_now_counts_from_the_first_step() -> None:
    assert float(steer(ROOM, [[TOGGLE, RIGHT]])) == pytest.approx(2.0, abs=1e-4)


def test_a_change_elsewhere_than_at_the_subgoal_is_not_the_expected_one() -> None:
    far = door()._replace(logits=Corridor.logits(at(0)), context=room_of(torch.tensor([ROOM + 1])))
    # The door opens, but the subgoal (the wall) is far from it: with a strict threshold that is no arrival.
    assert float(steer(ROOM, [[TOGGLE, RIGHT]], far, threshold=1.0)) < 1.0


def test_a_change_into_another_context_is_not_the_expected_one() -> None:
    other = door()._replace(context=room_of(torch.tensor([ROOM])))  # the present room itself
    assert float(steer(ROOM, [[TOGGLE, TOGGLE]], other)) < 1.0


def test_where_the_episode_is_expected_to_end_its_end_is_the_arrival() -> None:
    goal = Subgoal(
        Corridor.logits(at(END - 1)),
        F.one_hot(torch.tensor([RIGHT]), 3).float(),
        room_of(torch.tensor([END - 1])),
        torch.tensor([0.0]),
    )
    ending, goes_on = goal, goal._replace(continuation=torch.tensor([1.0]))
    plan = [[RIGHT, RIGHT]]
    reward = 1 / 2
    assert float(steer(END - 1, plan, ending)) == pytest.approx(reward + 2.0, abs=1e-4)
    assert float(steer(END - 1, plan, goes_on)) < reward + 1.0


def test_the_end_with_a_reward_costs_no_credit_where_it_is_asked_for() -> None:
    # The subgoal is where the agent stands, two steps before the goal: staying must not be worth more than the goal.
    here = Subgoal(
        Corridor.logits(at(END - 2)), torch.zeros(1, 3), room_of(torch.tensor([1])), torch.tensor([1.0])
    )
    finish, stay = [RIGHT, RIGHT, RIGHT, RIGHT], [TOGGLE] * 4
    for options in ({"arrival": True}, {"arrival": False}):
        charged = steer(END - 2, [finish, stay], here, **options)
        credited = steer(END - 2, [finish, stay], here, ending=0.5, **options)
        assert charged[1] > charged[0]
        assert credited[0] > credited[1]
        assert float(credited[1]) == float(charged[1])
        top = 2.0 if options["arrival"] else 1.0
        first = 1 - 1 / END  # a step on the way
        assert float(credited[0]) == pytest.approx((1 + first + 3 * top) / 4, abs=1e-3)


def test_an_end_without_enough_reward_still_costs_the_credit() -> None:
    here = door()._replace(logits=Corridor.logits(at(END - 1)))
    plan = [[RIGHT, RIGHT, RIGHT]]
    assert float(steer(END - 1, plan, here, ending=1.5)) == float(steer(END - 1, plan, here))


def test_a_share_of_candidates_that_ends_is_credited_in_that_share() -> None:
    script = Script([0.0, 1.0, 0.0], [1.0, 0.25, 1.0])
    script.imagine = lambda belief, action, uniforms=None: belief._replace(stoch=belief.stoch + 1)  # type: ignore[method-assign,assignment]
    script.outcome = lambda belief: Script.outcome(script, (belief.stoch[..., 0],))  # type: ignore[method-assign]
    belief = CORRIDOR.belief(0)._replace(stoch=torch.zeros(1, 1, dtype=torch.int64))
    subgoal = door()._replace(logits=belief.logits)  # always there
    objective = SubgoalObjective(
        ReturnObjective(script, discount=1.0),
        subgoal=subgoal,
        context=belief.context,
        kappa=3.0,
        arrival=False,
        ending=0.5,
    )
    score = rollout(script, objective, belief, torch.zeros(1, 1, 3, 2), None).score
    assert float(score) == pytest.approx(1 / 3 + 1 + 1 + (0.25 + 0.75), abs=1e-5)


def test_scores_of_a_batch_are_those_of_its_sessions() -> None:
    belief = CORRIDOR.belief(1, 4)
    subgoal = pytrees.map_arrays(lambda x: x.expand(2, *x.shape[1:]), door())
    base = ReturnObjective(CORRIDOR, discount=0.9)
    candidates = F.one_hot(torch.randint(3, (2, 6, 5), generator=torch.Generator().manual_seed(1)), 3).float()

    def score(rows: slice) -> Tensor:
        part = pytrees.map_arrays(lambda x: x[rows], (belief, subgoal))
        objective = SubgoalObjective(base, subgoal=part[1], context=part[0].context, kappa=0.3)
        return rollout(CORRIDOR, objective, part[0], candidates[rows], None).score

    assert torch.equal(score(slice(0, 2)), torch.cat([score(slice(0, 1)), score(slice(1, 2))]))
