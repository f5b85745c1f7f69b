"""The agent: sessions that do not disturb each other, answers as the API has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.sizes import ACTIONS, SPACES, model
from tests.planning.models import BUDGET, agent, keys, row, same, seen, started
from thick import pytrees
from thick.agent import ActResult, Agent, AgentState
from thick.export import write_entry
from thick.planning.low import follow_actor
from thick.planning.randomness import Randomness
from thick.planning.settings import PlannerSettings
from thick.runtimes.torch.agents import load_agent
from thick.spaces import space_to_json

WAYS = {
    ("hierarchical", "discrete", "categorical-cem"): True,
    ("hierarchical", "discrete", "mcts"): False,
    ("hierarchical", "continuous", "cem"): True,
    ("hierarchical", "continuous", "icem"): False,
    ("flat", "continuous", "mppi"): True,
    ("flat", "discrete", "categorical-cem"): False,
    ("flat", "discrete", "policy-rollouts"): True,
    ("hierarchical", "continuous", "policy-rollouts"): False,
    ("policy", "discrete", "categorical-cem"): True,
    ("policy", "continuous", "cem"): False,
}
"""of planning, each with whether a quick run tries it"""


def step_on(of: Agent, state: AgentState, step: int, settings: PlannerSettings | None = None) -> ActResult:
    """Observe the step-th observation and plan, for sessions 0 … B-1."""
    batch = state.previous_action.shape[0]
    state = of.observe(
        state,
        seen(of, batch, seed=step),
        is_first=torch.full((batch,), step == 0),
        keys=keys(batch, step),
    )
    return of.act(state, settings, keys=keys(batch, step))


@pytest.mark.parametrize(
    ("method", "action", "low", "high"),
    [
        pytest.param(*way, high, marks=() if high == "mcts" and quick else pytest.mark.slow)
        for way, quick in WAYS.items()
        for high in ("mcts", "tree")
    ],
)
def test_an_episode_in_a_batch_is_exactly_that_of_each_session_alone(
    method: str, action: str, low: str, high: str
) -> None:
    of = agent(action=action, actor_critic=True, planner={"method": method, "low": low, "high": high})
    together, alone = of.initial(3), [of.initial(1) for _ in range(3)]
    for step in range(3):
        observation = seen(of, 3, seed=step)
        assert isinstance(observation, torch.Tensor)
        first = torch.tensor([step == 0, step == 0, step in (0, 2)])
        state = of.observe(together, observation, is_first=first, keys=keys(3, step))
        output = of.act(state, keys=keys(3, step))
        together = output.state
        for session in range(3):
            part = slice(session, session + 1)
            mine = of.observe(
                alone[session], observation[part], is_first=first[part], keys=keys(3, step)[part]
            )
            answer = of.act(mine, keys=keys(3, step)[part])
            alone[session] = answer.state
            assert torch.equal(answer.action[0], output.action[session])
            assert same(answer.state, row(together, session))


# Each kind of encoder under the method that runs most of the model, and one of them under each method.
PLACES = [
    ("hierarchical", "dict"),
    *(
        pytest.param("hierarchical", space, marks=pytest.mark.slow)
        for space in ("image", "grid", "vector", "kinds")
    ),
]


@pytest.mark.parametrize(("method", "space"), [*PLACES, ("policy", "vector"), ("flat", "vector")])
def test_the_place_in_a_batch_of_any_size_changes_no_bit(method: str, space: str) -> None:
    budget = {"method": method, "low": "cem", "samples": 8, "iterations": 1, "horizon": 2, "simulations": 3}
    # Sizes that fill no vector of the processor: what is left over at the end of a tensor is often computed apart.
    of = agent(space, "continuous", actor_critic=True, planner=budget, deter=41, hidden=27, context=5)
    count = 19
    alone = [of.initial(1) for _ in range(count)]
    state = of.initial(count)
    for step in range(2):
        observation = seen(of, count, seed=step)
        first = torch.full((count,), step == 0)
        output = of.act(
            of.observe(state, observation, is_first=first, keys=keys(count, step)), keys=keys(count, step)
        )
        state = output.state
        for session in range(count):
            part = slice(session, session + 1)
            only = (
                observation[part]
                if isinstance(observation, torch.Tensor)
                else {name: array[part] for name, array in observation.items()}
            )
            mine = of.observe(alone[session], only, is_first=first[part], keys=keys(count, step)[part])
            alone[session] = of.act(mine, keys=keys(count, step)[part]).state
            assert same(alone[session], row(state, session)), (step, session)


@pytest.mark.parametrize("space", list(SPACES))
@pytest.mark.parametrize("kind", ["thick", "crssm", "rssm"])
def test_every_kind_of_model_and_observation_acts(kind: str, space: str) -> None:
    of = agent(space, kind=kind)
    assert of.planner.method == ("hierarchical" if kind == "thick" else "flat")
    output = step_on(of, of.initial(2), 0)
    output = step_on(of, output.state, 1)
    assert of.decode_action(output.action)[0] in range(4)


def test_the_same_keys_give_the_same_actions_and_others_other_plans() -> None:
    of = agent(action="continuous")
    state = started(of, 2)
    first, again, other = (of.act(state, keys=k) for k in (keys(2), keys(2), keys(2, 1)))
    assert same(first.state, again.state) and not torch.equal(first.action, other.action)


def test_planning_and_observing_change_no_state_that_was_given() -> None:
    of = agent()
    state = started(of, 2)
    copy = pytrees.map_arrays(lambda x: x.clone(), state)
    output = of.act(state, keys=keys(2))
    after = pytrees.map_arrays(lambda x: x.clone(), output.state)
    of.observe(output.state, seen(of, 2, seed=3), is_first=torch.tensor([True, False]), keys=keys(2))
    list(of.imagine(row(output.state, 0), level="low", policy="plan", horizon=2, keys=keys(1)))
    assert same(state, copy) and same(output.state, after)


def test_a_first_observation_forgets_belief_plan_and_action() -> None:
    of = agent()
    output = step_on(of, of.initial(2), 0)
    observation = seen(of, 2, seed=5)
    first = of.observe(output.state, observation, is_first=torch.tensor([True, True]), keys=keys(2))
    fresh = of.observe(of.initial(2), observation, is_first=torch.tensor([True, True]), keys=keys(2))
    assert same(first.belief, fresh.belief) and same(first.plan, fresh.plan)
    assert same(of.act(first, keys=keys(2)).action, of.act(fresh, keys=keys(2)).action)


def test_what_was_really_done_replaces_the_agents_own_action_where_it_is_said() -> None:
    of = agent()
    output = step_on(of, of.initial(2), 0)
    own = of.decode_action(output.action)
    other = [(action + 1) % 4 for action in own]
    observation, no = seen(of, 2, seed=1), torch.zeros(2, dtype=torch.bool)
    options: Any = {"is_first": no, "keys": keys(2)}
    plain = of.observe(output.state, observation, **options)
    mixed = of.observe(
        output.state,
        observation,
        executed_action=of.encode_action(other),
        executed=torch.tensor([False, True]),
        **options,
    )
    every = of.observe(output.state, observation, executed_action=of.encode_action(other), **options)
    repeated = of.observe(output.state, observation, executed_action=of.encode_action(own), **options)
    assert same(plain, repeated)
    assert same(row(mixed, 0), row(plain, 0)) and same(row(mixed, 1), row(every, 1))
    assert not same(mixed.belief, plain.belief) and of.decode_action(every.previous_action) == other


def test_states_of_different_sessions_can_be_gathered_and_scattered() -> None:
    of = agent()
    a, b = step_on(of, of.initial(3), 0).state, of.initial(2)
    joined = pytrees.map_arrays(lambda x, y: torch.cat([x, y]), a, b)
    assert all(x.shape[0] == 5 for x in _leaves(joined))
    assert same(pytrees.select(joined, torch.tensor([1])), row(a, 1))
    changed = pytrees.put(joined, torch.tensor([4]), row(a, 0))
    assert same(row(changed, 4), row(a, 0)) and same(row(changed, 3), row(b, 0))


def _leaves(tree: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    pytrees.map_arrays(lambda x: found.append(x) or x, tree)
    return found


# -- what is said about a plan -----------------------------------------------------------------------------


def test_the_plan_is_reported_as_the_api_has_it() -> None:
    of = agent("grid")
    info = step_on(of, of.initial(2), 0).info(1)
    assert set(info) == {
        "method", "replanned", "context_changed", "gates_open", "high", "low", "levels", "budget"
    }  # fmt: skip
    assert info["method"] == "hierarchical" and info["replanned"] is True
    assert info["context_changed"] == (info["gates_open"] > 0)
    high, low, budget = info["high"], info["low"], info["budget"]
    assert set(high) == {"actions", "durations", "values", "subgoal", "visits"}
    assert len(high["actions"]) == len(high["durations"]) >= 1
    assert len(high["values"]) == len(high["visits"]) == 3 and sum(high["visits"]) == BUDGET["simulations"]
    assert high["subgoal"].shape == (5, 6, 3) and high["subgoal"].dtype == np.uint8
    assert len(low["actions"]) == BUDGET["horizon"] and all(action in range(4) for action in low["actions"])
    assert low["samples"] == 2 * 24 and low["iterations"] == 2 and isinstance(low["expected_return"], float)
    assert budget == {
        "deadline_ms": None,
        "iterations_done": 2,
        "iterations_asked": 2,
        "simulations_done": 12,
        "simulations_asked": 12,
    }
    levels = info["levels"]
    assert [level["level"] for level in levels] == [0, 1]
    for level, named in zip(levels, (low, high), strict=True):
        assert {name: value for name, value in level.items() if name != "level"}.keys() == named.keys()
        assert level["actions"] == named["actions"]


def test_a_step_without_a_high_level_search_keeps_telling_the_subgoal() -> None:
    of = agent("grid", planner={"settle": 1000, "patience": 1000})
    first = step_on(of, of.initial(1), 0)
    second = step_on(of, first.state, 1)
    one, other = first.info(0), second.info(0)
    assert other["replanned"] is False and other["budget"]["simulations_done"] == 0
    assert other["high"]["actions"] == one["high"]["actions"]
    assert same(second.found.memory.levels[0].subgoal, first.found.memory.levels[0].subgoal)


def test_flat_plans_have_no_high_level_and_continuous_actions_are_arrays() -> None:
    of = agent(action="continuous", planner={"method": "flat"})
    info = step_on(of, of.initial(1), 0).info(0)
    assert info["high"] is None and info["budget"]["simulations_asked"] == 0
    action = info["low"]["actions"][0]
    assert action.dtype == np.float32 and action.shape == (2,) and bool((np.abs(action) <= 1).all())


def test_a_deadline_may_fall_anywhere() -> None:
    of = agent(actor_critic=True)
    state = started(of, 2)
    planning = of.plan(state, keys=keys(2))
    while True:
        output = planning.result()
        assert output.action.shape == (2, 4) and torch.equal(output.action.sum(-1), torch.ones(2))
        assert set(output.phase_ms) == {"high_plan_ms", "low_plan_ms"}
        info = output.info(0)
        assert info["budget"]["iterations_done"] <= info["budget"]["iterations_asked"] == 2
        of.observe(output.state, seen(of, 2), is_first=torch.zeros(2, dtype=torch.bool), keys=keys(2))
        if planning.done:
            break
        planning.step()
    assert min(planning.result().phase_ms.values()) > 0


# -- settings ------------------------------------------------------------------------------------------------


def test_defaults_fit_the_checkpoint() -> None:
    assert agent(action="continuous").planner.low == "cem"
    assert agent().planner.low == "categorical-cem"
    assert agent(kind="rssm").planner.method == "flat"
    assert agent(planner={"samples": 77}).planner.samples == 77


def test_what_a_checkpoint_has_is_reported_and_what_it_lacks_is_refused() -> None:
    plain, actor, flat = agent(), agent(actor_critic=True), agent(kind="crssm")
    assert [plain.has(method) for method in ("hierarchical", "flat", "policy")] == [True, True, False]
    assert actor.has("policy") and not flat.has("hierarchical") and not plain.has("magic")
    with pytest.raises(ValueError, match="'policy' needs an actor"):
        plain.settings({"method": "policy"})
    with pytest.raises(ValueError, match="expected one of flat"):
        flat.settings({"method": "hierarchical"})
    with pytest.raises(ValueError, match="needs continuous actions"):
        plain.settings({"low": "icem"})
    with pytest.raises(ValueError, match="did you mean 'samples'"):
        agent(planner={"sample": 3})


def test_an_actor_and_a_critic_help_the_search_and_can_be_left_out() -> None:
    # One iteration and one elite: the plan is the best of the candidates.
    budget = {
        "method": "flat", "low": "icem", "samples": 8, "iterations": 1, "elites": 1, "horizon": 3, "stochastic": False
    }  # fmt: skip
    of = agent(action="continuous", actor_critic=True, planner=budget)
    state = started(of, 1)
    low, belief = of.model.exact, state.belief

    def worth(sequences: Tensor, *, critic: bool) -> tuple[Tensor, Tensor]:
        """Discounted rewards of sequences ``[1, N, H, A]``, and the discounted value after them, step by step."""
        at = pytrees.expand(belief, sequences.shape[1])
        total, alive = torch.zeros(sequences.shape[:2]), torch.ones(sequences.shape[:2])
        for step in range(3):
            at = low.imagine(at, sequences[:, :, step])
            reward, goes_on = low.outcome(at)
            total = total + 0.99**step * alive * reward
            alive = alive if goes_on is None else alive * goes_on
        return total, 0.99**3 * alive * low.value(at) if critic else 0 * total

    drawn = Randomness(keys(1)).fold("plan").fold("low")
    proposed = follow_actor(low, belief, 4, 3, of.actions, drawn.fold("actor"))
    assert torch.allclose(
        proposed[:, 0, 0], low.policy(belief)[0].clamp(-1, 1)
    )  # the first is the actor's mode
    found = {}
    for count, critic in ((4, True), (4, False), (0, True)):
        settings = of.settings({"actor_proposals": count, "critic": critic})
        found[count, critic] = of.act(state, settings, keys=keys(1)).found
        plan = found[count, critic]
        rewards, value = worth(plan.sequence[:, None], critic=critic)
        assert torch.allclose(plan.expected_return, (rewards + value)[:, 0], atol=1e-5)
    best = sum(worth(proposed, critic=True))
    assert float(found[4, True].expected_return) >= float(best.max()) - 1e-5
    # The candidates that nobody proposed are the same with proposals and without.
    assert float(found[4, True].expected_return) != float(found[0, True].expected_return)
    assert not torch.equal(found[4, True].expected_return, found[4, False].expected_return)


def test_the_policy_is_the_actors_mode_and_a_temperature_samples_it() -> None:
    of = agent(actor_critic=True, planner={"method": "policy"})
    state = started(of, 64)
    logits, _ = of.model.exact.policy(state.belief)
    output = of.act(state, keys=keys(64))
    assert torch.equal(output.action.argmax(-1), logits.argmax(-1))
    assert torch.allclose(output.found.expected_return, of.model.exact.value(state.belief))
    sampled = of.act(state, of.settings({"temperature": 5.0}), keys=keys(64))
    assert not torch.equal(sampled.action, output.action)


# -- actions -------------------------------------------------------------------------------------------------


def test_actions_travel_both_ways() -> None:
    discrete, continuous = agent(), agent(action="continuous")
    assert discrete.decode_action(discrete.encode_action([2, 0, 3])) == [2, 0, 3]
    given = [[0.25, -1.0], np.array([0.5, 1.0], np.float32)]
    back = continuous.decode_action(continuous.encode_action(given))
    assert [list(action) for action in back] == [[0.25, -1.0], [0.5, 1.0]]
    assert back[0].dtype == np.float32


@pytest.mark.parametrize("wrong", [[4], [-1], [1.5], [True]])
def test_a_discrete_action_that_does_not_exist_is_refused(wrong: list[Any]) -> None:
    with pytest.raises(ValueError, match="expected a whole number from 0 to 3"):
        agent().encode_action(wrong)


@pytest.mark.parametrize("wrong", [[[1.0]], [[float("nan"), 0.0]], [0.5, 0.5]])
def test_a_continuous_action_of_another_shape_is_refused(wrong: list[Any]) -> None:
    with pytest.raises(ValueError, match="expected 2 finite numbers"):
        agent(action="continuous").encode_action(wrong)


def test_a_session_that_has_seen_nothing_cannot_plan_or_imagine() -> None:
    of = agent()
    with pytest.raises(ValueError, match="seen nothing yet"):
        of.plan(of.initial(1), keys=keys(1))
    with pytest.raises(ValueError, match="seen nothing yet"):
        of.imagine(of.initial(1), keys=keys(1))


# -- loading -------------------------------------------------------------------------------------------------


def test_an_exported_agent_acts_as_the_one_in_memory(tmp_path: Path) -> None:
    world = model(SPACES["vector"], ACTIONS["discrete"], actor_critic=True)
    import dataclasses

    entry = write_entry(
        tmp_path,
        name="tiny",
        kind="thick",
        task="minigrid:none",
        observation_space=space_to_json(SPACES["vector"]),
        action_space=space_to_json(ACTIONS["discrete"]),
        configuration={"model": dataclasses.asdict(world.config)},
        planner=BUDGET,
        provenance={},
        tensors=world.state_dict(),
    )
    loaded, kept = load_agent(entry, precision="fp32"), agent(actor_critic=True)
    assert loaded.manifest is not None and loaded.manifest.name == "tiny"
    assert loaded.planner == kept.planner and loaded.has("policy")
    assert same(step_on(loaded, loaded.initial(2), 0).state, step_on(kept, kept.initial(2), 0).state)
