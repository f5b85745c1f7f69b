"""Locked corridors: solvable door by door, split by layout, started anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from minigrid.core.world_object import Door, Key

from thick.envs import UnknownEnvironmentError, UnusableEnvironmentError, make
from thick.envs.scripted import NoisyExpert
from thick.envs.splits import layout_hash, split_of

KEY, DOOR, AGENT, OPEN = 5, 4, 10, 0


def things(env: Any, kind: type) -> list[tuple[int, Any]]:
    """(column, thing) of everything of a kind, from left to right."""
    grid = env.unwrapped.grid
    found = [(x, grid.get(x, y)) for x in range(grid.width) for y in range(grid.height)]
    return [(x, thing) for x, thing in found if isinstance(thing, kind)]


@pytest.mark.parametrize("doors", [1, 2, 4])
def test_every_door_takes_a_key_of_its_own(doors: int) -> None:
    env = make(f"minigrid:corridor-{doors}+full")
    _, info = env.reset(seed=3)
    policy = NoisyExpert.expert()
    policy.reset(env, np.random.default_rng(0))
    events: list[str] = []
    while not info["success"]:
        _, _, _, truncated, info = env.step(policy(env))
        events += info["events"]
        assert not truncated
    assert events == ["pickup", "door_opened"] * doors + ["goal"]
    assert env.unwrapped.carrying is None


def test_a_key_lies_in_the_room_before_its_door() -> None:
    env = make("minigrid:corridor-5")
    for seed in range(10):
        env.reset(seed=seed)
        doors, keys = [x for x, _ in things(env, Door)], [x for x, _ in things(env, Key)]
        assert len(doors) == len(keys) == 5
        assert all(key < door for key, door in zip(keys, doors, strict=True))
        assert all(door < key for door, key in zip(doors, keys[1:], strict=False))
        assert env.unwrapped.agent_pos[0] < doors[0]


def test_all_doors_and_keys_are_alike() -> None:
    env = make("minigrid:corridor-4")
    env.reset(seed=0)
    assert {tuple(thing.encode()) for _, thing in things(env, Door)} == {(4, 4, 2)}
    assert {tuple(thing.encode()) for _, thing in things(env, Key)} == {(5, 4, 0)}


@pytest.mark.parametrize(
    "env_id",
    ["minigrid:corridor-2", "minigrid:MiniGrid-DoorKey-6x6-v0+map", "minigrid:MiniGrid-KeyCorridorS3R1-v0"],
)
def test_layouts_are_split_and_no_layout_is_in_both(env_id: str) -> None:
    seen = {
        split: {make(env_id, split=split, seed=s).reset()[1]["layout"] for s in range(60)}
        for split in ("train", "test")
    }
    assert not seen["train"] & seen["test"]
    assert {split_of(layout) for layout in seen["train"]} == {"train"}
    assert {split_of(layout) for layout in seen["test"]} == {"test"}


def test_about_a_fifth_of_the_layouts_is_for_tests_and_the_hash_never_changes() -> None:
    env = make("minigrid:corridor-3", seed=0)
    drawn = [split_of(env.reset()[1]["layout"]) for _ in range(200)]
    assert 0.1 < drawn.count("test") / len(drawn) < 0.3
    assert layout_hash(np.arange(12).reshape(2, 2, 3)) == "9e36d44255e83369"


def test_a_layout_does_not_depend_on_where_the_agent_stands() -> None:
    starts, layouts = set(), set()
    env = make("minigrid:MiniGrid-DoorKey-5x5-v0+map", seed=0)
    for _ in range(60):
        observation, info = env.reset()
        x, y = np.argwhere(observation[..., 0] == AGENT)[0]
        starts.add((info["layout"], x, y, observation[x, y, 2]))
        layouts.add(info["layout"])
    assert len(layouts) < len(starts)


def test_exploring_starts_are_anywhere_with_doors_and_keys_as_that_takes() -> None:
    env = make("minigrid:corridor-3+map", exploring_starts=True, seed=1)
    rooms: dict[int, int] = {}
    carried = 0
    for _ in range(150):
        observation, _ = env.reset()
        doors, keys = things(env, Door), things(env, Key)
        opened = [door.is_open for _, door in doors]
        count = sum(opened)
        assert opened == [True] * count + [False] * (3 - count)
        assert all(door.is_locked != door.is_open for _, door in doors)
        has_key = env.unwrapped.carrying is not None
        assert len(keys) == 3 - count - has_key
        assert all(x > doors[count - 1][0] for x, _ in keys if count)
        if count < 3:
            assert env.unwrapped.agent_pos[0] < doors[count][0]
        rooms[count] = rooms.get(count, 0) + 1
        carried += has_key
        # On the map nothing of it is seen: all keys and locked doors stay drawn, but where the agent stands.
        drawn = observation[..., 0]
        assert (drawn == KEY).sum() + (drawn == DOOR).sum() >= 5
        assert not (observation[drawn == DOOR][:, 2] == OPEN).any()
    assert set(rooms) == {0, 1, 2, 3} and min(rooms.values()) > 15
    assert 20 < carried < 100


def test_an_exploring_start_can_be_solved() -> None:
    env = make("minigrid:corridor-3+full", exploring_starts=True, seed=5)
    for _ in range(8):
        _, info = env.reset()
        policy = NoisyExpert.expert()
        policy.reset(env, np.random.default_rng(0))
        while not info["success"]:
            _, _, _, truncated, info = env.step(policy(env))
            assert not truncated


@pytest.mark.parametrize(
    ("env_id", "options", "says"),
    [
        ("minigrid:corridor-0", {}, "no task 'corridor-0'; did you mean"),
        ("minigrid:corridor-2", {"split": "validation"}, "split: expected train or test"),
        ("minigrid:corridor-2", {"rooms": 3}, "minigrid has no option 'rooms'"),
        ("minigrid:corridor-2", {"room": 1}, "room: expected a side"),
    ],
)
def test_what_there_is_not_is_refused(env_id: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises((UnknownEnvironmentError, UnusableEnvironmentError, ValueError), match=says):
        make(env_id, **options)


def test_a_task_with_a_single_layout_has_no_split() -> None:
    env = make("minigrid:MiniGrid-Empty-5x5-v0", split="test")
    other = make("minigrid:MiniGrid-Empty-5x5-v0", split="train")
    with pytest.raises(UnusableEnvironmentError, match="too few layouts"):
        for one in (env, other):
            one.reset(seed=0)


def test_the_held_view_is_the_egocentric_one_with_the_five_actions() -> None:
    whole, held = make("minigrid:corridor-1"), make("minigrid:corridor-1+held")
    assert np.array_equal(whole.reset(seed=0)[0], held.reset(seed=0)[0])
    assert held.action_space.n == 5
    policy = NoisyExpert.expert()
    policy.reset(whole, np.random.default_rng(0))
    carried = False
    while not carried:
        action = policy(whole)
        name = whole.get_wrapper_attr("action_names")[action]
        seen, *_ = whole.step(action)
        shown, *_, info = held.step(held.get_wrapper_attr("action_names").index(name))
        assert np.array_equal(seen, shown)
        carried = info["facts"]["carrying"]
        assert (shown[3, 6, 0] == KEY) == carried


@pytest.mark.parametrize(("view", "of"), [("around", "map"), ("near", "full")])
def test_a_view_around_the_agent_is_a_part_of_the_grid_and_shows_what_it_carries(view: str, of: str) -> None:
    whole, near = make(f"minigrid:corridor-2+{of}"), make(f"minigrid:corridor-2+{view}", agent_view_size=5)
    drawn, seen = whole.reset(seed=0)[0], near.reset(seed=0)[0]
    policy = NoisyExpert.expert()
    policy.reset(whole, np.random.default_rng(0))
    colours, success = set(), False
    while not success:
        assert seen.shape == (5, 5, 3)
        x, y = near.unwrapped.agent_pos
        left, top = max(0, x - 2), max(0, y - 2)
        part = drawn[left : x + 3, top : y + 3].copy()
        shown = seen[left - x + 2 :, top - y + 2 :][: part.shape[0], : part.shape[1]].copy()
        assert seen[2, 2, 0] == AGENT and seen[2, 2, 2] == near.unwrapped.agent_dir
        colours.add((int(seen[2, 2, 1]), near.unwrapped.carrying is not None))
        shown[x - left, y - top] = part[x - left, y - top] = 0  # the agent itself
        assert np.array_equal(shown, part)
        action = policy(whole)
        drawn, *_ = whole.step(action)
        seen, _, success, _, _ = near.step(action)
    assert colours == {(0, False), (4, True)}  # red, and the key's yellow


def test_the_partial_view_is_the_egocentric_one_without_the_inventory() -> None:
    whole, partial = make("minigrid:corridor-1"), make("minigrid:corridor-1+partial")
    seen, hidden = whole.reset(seed=0)[0], partial.reset(seed=0)[0]
    policy = NoisyExpert.expert()
    policy.reset(whole, np.random.default_rng(0))
    carried = 0
    for _ in range(30):
        own = seen[3, 6].tolist()
        assert hidden[3, 6].tolist() == [1, 0, 0]
        seen[3, 6] = hidden[3, 6]
        assert np.array_equal(seen, hidden)
        carried += own[0] == KEY
        name = whole.get_wrapper_attr("action_names")[policy(whole)]
        seen, _, over, _, _ = whole.step(whole.get_wrapper_attr("action_names").index(name))
        hidden, *_ = partial.step(partial.get_wrapper_attr("action_names").index(name))
        if over:
            break
    assert carried > 0


def test_minigrids_own_observation_comes_without_its_text() -> None:
    env = make("minigrid:MiniGrid-DoorKey-5x5-v0+notext")
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"image", "direction"}
    before = observation["direction"]
    after = env.step(0)[0]["direction"]
    assert (before - after) % 4 == 1
