"""Imagining at both levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.planning.models import agent, keys, same, started
from thick import pytrees
from thick.agent import Agent
from thick.imagination import HighStep, LowStep


def imagine(of: Agent, **options: Any) -> list[Any]:
    return list(of.imagine(started(of, 1), keys=keys(1), **options))


def test_high_steps_have_the_fields_of_the_api_for_every_rollout() -> None:
    steps = imagine(agent("grid"), level="high", horizon=3, rollouts=4, policy="prior")
    assert len(steps) == 3 and all(isinstance(step, HighStep) for step in steps)
    fields = steps[-1].fields()
    assert set(fields) >= {
        "high_action", "probability", "duration", "time", "reward", "return", "value", "continuation",
        "subgoal", "observation",
    }  # fmt: skip
    for name, value in fields.items():
        assert value.shape[0] == 4, name
    assert fields["observation"].shape == fields["subgoal"].shape == (4, 5, 6, 3)
    assert np.allclose(steps[2].time, sum(step.duration for step in steps))
    assert np.allclose(steps[2].rollout_probability, np.prod([step.probability for step in steps], 0))
    gamma = 0.99
    total = (
        steps[0].segment_return + gamma ** steps[0].duration * steps[0].continuation * steps[1].segment_return
    )
    assert np.allclose(steps[1].rollout_return, total, atol=1e-5)
    assert all(bool((step.duration >= 1).all()) and bool((step.probability <= 1).all()) for step in steps)


def test_low_steps_have_the_fields_of_the_api_for_every_rollout() -> None:
    of = agent("dict", "continuous", actor_critic=True)
    for policy in ("plan", "prior", "actor"):
        steps = imagine(of, level="low", horizon=6, rollouts=3, policy=policy)
        assert len(steps) == 6 and all(isinstance(step, LowStep) for step in steps)
        fields = steps[-1].fields()
        assert set(fields) >= {
            "action", "reward", "value", "continuation", "gates_open", "context_changed", "observation",
        }  # fmt: skip
        assert fields["action"].shape == (3, 2) and fields["action"].dtype == np.float32
        assert fields["observation"]["camera"].shape == (3, 64, 64, 3)
        assert np.array_equal(fields["context_changed"], fields["gates_open"] > 0)
        assert np.isfinite(fields["value"]).all()


def test_all_high_level_actions_are_tried_once_each_from_the_present_state() -> None:
    of = agent()
    state = started(of, 1)
    assert of.model.high is not None
    first = next(iter(of.imagine(state, level="high", policy="all", horizon=2, rollouts=1, keys=keys(1))))
    assert first.high_action.tolist() == [0, 1, 2]
    prior = of.model.high.prior(state.belief.stoch, state.belief.context).softmax(-1)[0]
    assert np.allclose(first.probability, prior.numpy(), atol=1e-6) and np.isclose(first.probability.sum(), 1)
    stoch, context = (x.expand(3, -1) for x in (state.belief.stoch, state.belief.context))
    jump = of.model.high.jump(stoch, context, torch.arange(3))
    assert np.allclose(first.duration, jump.elapsed.numpy()) and np.allclose(
        first.reward, jump.reward.numpy()
    )


def test_a_level_may_be_named_by_its_number() -> None:
    of = agent()
    high, low = (imagine(of, level=level, horizon=1, rollouts=1, policy="prior") for level in (1, 0))
    assert isinstance(high[0], HighStep) and isinstance(low[0], LowStep)


def test_all_low_level_actions_are_tried_once_each() -> None:
    steps = imagine(agent(), level="low", policy="all", horizon=2)
    assert [step.action.tolist() for step in steps] == [[0, 1, 2, 3]] * 2
    assert np.isnan(steps[0].value).all()  # there is no critic


def test_given_actions_are_taken() -> None:
    of = agent()
    steps = imagine(of, level="low", actions=[3, 0, 1], rollouts=2, horizon=99)
    assert [step.action.tolist() for step in steps] == [[3, 3], [0, 0], [1, 1]]
    steps = imagine(of, level="low", actions=[[3, 0], [1, 2]])
    assert [step.action.tolist() for step in steps] == [[3, 1], [0, 2]]
    steps = imagine(of, level="high", actions=[2, 0])
    assert [step.high_action.tolist() for step in steps] == [[2], [0]]
    steps = imagine(of, level="high", actions=[[2, 0], [1, 1]])
    assert [step.high_action.tolist() for step in steps] == [[2, 1], [0, 1]]
    continuous = agent(action="continuous")
    steps = imagine(continuous, level="low", actions=[[0.5, -0.5], [1.0, 0.0]], rollouts=2)
    assert [step.action.tolist() for step in steps] == [[[0.5, -0.5]] * 2, [[1.0, 0.0]] * 2]


def test_a_given_path_is_imagined_as_the_dynamics_does() -> None:
    of = agent("grid")
    state = started(of, 1)
    steps = list(of.imagine(state, level="low", actions=[3, 0], rollouts=1, keys=keys(1)))
    belief = state.belief
    for step, action in zip(steps, (3, 0), strict=True):
        belief = of.model.imagine(belief, of.encode_action([action]))
        assert np.array_equal(step.observation, of.model.decode(belief).numpy())
        assert np.allclose(step.reward, of.model.exact.outcome(belief)[0].numpy())


@pytest.mark.parametrize("high", ["mcts", "tree"])
def test_the_planned_high_level_action_is_the_one_the_planner_would_choose(high: str) -> None:
    of = agent(planner={"high": high})
    state = started(of, 1)
    plan = of.act(state, keys=keys(1)).info(0)
    step = next(iter(of.imagine(state, level="high", policy="plan", keys=keys(1))))
    assert step.high_action.tolist() == plan["high"]["actions"][:1]
    assert step.duration.tolist() == pytest.approx(plan["high"]["durations"][:1])


def test_the_first_rollout_is_the_most_likely_one_and_the_others_are_samples() -> None:
    of = agent()
    alone = imagine(of, level="low", policy="prior", horizon=4, rollouts=1)
    many = imagine(of, level="low", actions=[1, 1, 1, 1], rollouts=8)
    one = imagine(of, level="low", actions=[1, 1, 1, 1], rollouts=1)
    assert len(alone) == 4
    assert np.allclose([step.reward[0] for step in many], [step.reward[0] for step in one], atol=1e-6)
    assert len({step.reward.tolist()[5] for step in many} | {many[3].reward.tolist()[3]}) > 1
    assert np.unique(many[-1].reward.round(5)).size > 1


def test_imagining_is_repeatable_and_leaves_the_state_alone() -> None:
    of = agent()
    state = started(of, 1)
    copy = pytrees.map_arrays(lambda x: x.clone(), state)
    for level in ("high", "low"):
        runs = [
            list(of.imagine(state, level=level, policy="prior", horizon=3, rollouts=4, keys=k))
            for k in (keys(1), keys(1), keys(1, 9))
        ]
        for one, other in zip(runs[0], runs[1], strict=True):
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))
        assert not np.array_equal(runs[0][-1].reward, runs[2][-1].reward)
    assert same(state, copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "middle"}, "level: expected high or low"),
        ({"level": 2}, "level: expected high or low"),
        ({"level": True}, "level: expected high or low"),
        ({"policy": "random"}, "policy: expected one of plan, prior, actor, all"),
        ({"horizon": 0}, "at least 1"),
        ({"rollouts": 0}, "at least 1"),
        ({"level": "high", "policy": "actor"}, "the actor chooses low-level actions"),
        ({"level": "low", "policy": "actor"}, "has no actor"),
        ({"level": "high", "actions": [3]}, "high-level actions from 0 to 2"),
        ({"level": "high", "actions": []}, "high-level actions from 0 to 2"),
        ({"level": "high", "actions": ["a"]}, "high-level actions from 0 to 2"),
        ({"level": "low", "actions": [7]}, "expected a whole number from 0 to 3"),
        ({"level": "low", "actions": []}, "expected a list of actions"),
        ({"level": "low", "actions": [[0, 1], [2]]}, "actions: expected"),
        ({"level": "low", "actions": ["x"]}, "expected"),
        ({"level": "low", "actions": [None]}, "expected"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_imagined(
    options: dict[str, Any], message: str
) -> None:
    of = agent()
    with pytest.raises(ValueError, match=message):
        of.imagine(started(of, 1), keys=keys(1), **options)


def test_what_a_checkpoint_lacks_cannot_be_imagined() -> None:
    flat = agent(kind="rssm")
    with pytest.raises(ValueError, match="no high level"):
        flat.imagine(started(flat, 1), level="high", keys=keys(1))
    continuous = agent(action="continuous")
    with pytest.raises(ValueError, match="continuous actions cannot all be tried"):
        continuous.imagine(started(continuous, 1), level="low", policy="all", keys=keys(1))
    with pytest.raises(ValueError, match="expected one session, got 2"):
        continuous.imagine(started(continuous, 2), keys=keys(1))
