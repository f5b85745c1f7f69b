"""Views, actions and events of MiniGrid."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from minigrid.wrappers import FullyObsWrapper

from thick.envs import make
from thick.envs.scripted import NoisyExpert

ROOM = "minigrid:MiniGrid-DoorKey-6x6-v0"
KEY, DOOR, GOAL, AGENT = 5, 4, 8, 10
LOCKED, OPEN = 2, 0


def solved(env_id: str, seed: int = 0) -> list[tuple[np.ndarray, float, bool, dict[str, Any]]]:
    """Observation, reward, terminated and info of every step of a solved episode."""
    env = make(env_id)
    observation, info = env.reset(seed=seed)
    steps = [(observation, 0.0, False, info)]
    policy = NoisyExpert.expert()
    policy.reset(env, np.random.default_rng(seed))
    while not steps[-1][2]:
        observation, reward, terminated, truncated, info = env.step(policy(env))
        assert not truncated
        steps.append((observation, reward, terminated, info))
    return steps


def test_the_map_shows_the_grid_of_the_reset_with_the_live_agent_and_hides_what_happened_since() -> None:
    steps = solved(ROOM + "+map")
    drawn = steps[0][0].copy()
    background = drawn.copy()
    x, y = np.argwhere(drawn[..., 0] == AGENT)[0]
    background[x, y] = (1, 0, 0)
    kinds = {kind: int((background[..., 0] == kind).sum()) for kind in (KEY, DOOR, GOAL)}
    assert kinds == {KEY: 1, DOOR: 1, GOAL: 1}
    assert background[background[..., 0] == DOOR][0, 2] == LOCKED
    assert any("pickup" in info["events"] for *_, info in steps)
    for observation, *_ in steps:  # key and locked door stay drawn except under the agent
        agent = observation[..., 0] == AGENT
        assert agent.sum() == 1
        assert np.array_equal(observation[~agent], background[~agent])
    assert len({observation.tobytes() for observation, *_ in steps}) > 5


def test_two_states_that_differ_in_the_inventory_alone_look_the_same_on_the_map() -> None:
    steps = solved(ROOM + "+map")
    at = next(i for i, (*_, info) in enumerate(steps) if "pickup" in info["events"])
    assert np.array_equal(steps[at - 1][0], steps[at][0])
    opened = next(i for i, (*_, info) in enumerate(steps) if "door_opened" in info["events"])
    assert np.array_equal(steps[opened - 1][0], steps[opened][0])


def test_the_full_view_is_minigrids_own_fully_observable_grid() -> None:
    env = make(ROOM + "+full")
    theirs = FullyObsWrapper(gymnasium.make("MiniGrid-DoorKey-6x6-v0"))
    observation, _ = env.reset(seed=4)
    assert np.array_equal(observation, theirs.reset(seed=4)[0]["image"])
    numbers = {0: 0, 1: 1, 2: 2, 3: 3, 4: 5}  # ours to theirs: drop and done are left out
    for action in np.random.default_rng(0).integers(5, size=120):
        observation, reward, terminated, truncated, _ = env.step(int(action))
        expected = theirs.step(numbers[int(action)])
        assert np.array_equal(observation, expected[0]["image"])
        assert (reward, terminated, truncated) == expected[1:4]
        if terminated or truncated:
            break


def test_the_default_view_is_minigrids_own_image_with_its_seven_actions() -> None:
    env = make(ROOM)
    theirs = gymnasium.make("MiniGrid-DoorKey-6x6-v0")
    assert env.action_space == gymnasium.spaces.Discrete(7)
    observation, _ = env.reset(seed=2)
    assert np.array_equal(observation, theirs.reset(seed=2)[0]["image"])
    for action in np.random.default_rng(0).integers(7, size=80):
        observation, *_ = env.step(int(action))
        assert np.array_equal(observation, theirs.step(int(action))[0]["image"])
    assert np.array_equal(make(ROOM + "+egocentric").reset(seed=2)[0], theirs.reset(seed=2)[0]["image"])


@pytest.mark.parametrize("view", ["", "+full", "+map"])
def test_spaces_give_the_categories_of_each_channel(view: str) -> None:
    env = make(ROOM + view)
    assert env.observation_space.dtype == np.uint8
    assert env.observation_space.high.reshape(-1, 3).max(0).tolist() == [10, 5, 3]
    assert not env.observation_space.low.any()
    assert env.action_space.n == len(env.get_wrapper_attr("action_names")) == (7 if view == "" else 5)


def test_events_and_success_show_a_solved_episode_in_order() -> None:
    steps = solved(ROOM + "+map")
    assert [event for *_, info in steps for event in info["events"]] == ["pickup", "door_opened", "goal"]
    assert [info["success"] for *_, info in steps] == [False] * (len(steps) - 1) + [True]
    assert steps[-1][1] > 0
    assert all(reward == 0 for _, reward, *_ in steps[:-1])


def test_closing_a_door_and_dropping_a_key_are_events_too() -> None:
    env = make("minigrid:MiniGrid-DoorKey-5x5-v0")
    env.reset(seed=1)
    policy = NoisyExpert.expert()
    policy.reset(env, np.random.default_rng(0))
    events: list[str] = []
    while "door_opened" not in events:
        events += env.step(policy(env))[4]["events"]
    names = env.get_wrapper_attr("action_names")
    assert env.step(names.index("toggle"))[4]["events"] == ["door_closed"]
    while env.unwrapped.grid.get(*env.unwrapped.front_pos) is not None:
        env.step(names.index("left"))
    assert env.step(names.index("drop"))[4]["events"] == ["drop"]


def test_running_out_of_steps_truncates_without_success() -> None:
    env = make(ROOM + "+map", max_steps=7)
    env.reset(seed=0)
    for step in range(1, 8):
        _, reward, terminated, truncated, info = env.step(0)
        assert (reward, terminated, truncated, info["success"]) == (0, False, step == 7, False)


def test_an_action_outside_the_reduced_set_is_refused() -> None:
    env = make(ROOM + "+map")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected 0 to 4 \(left, right, forward, pickup, toggle\), got 5"):
        env.step(5)
