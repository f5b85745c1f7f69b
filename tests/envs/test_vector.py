"""Vector environments: one row a step, exact episode borders, the same in one process and in many."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from thick.envs import UnknownEnvironmentError, make
from thick.envs.vector import Rows, make_vector

TASK = "minigrid:MiniGrid-DoorKey-5x5-v0+map"


def play(env_id: str, num_envs: int, steps: int, **options: object) -> list[Rows]:
    venv = make_vector(env_id, num_envs, seed=3, **options)
    rows = [venv.reset()]
    generator = np.random.default_rng(0)
    for _ in range(steps):
        rows.append(venv.step(generator.integers(venv.action_space.n, size=num_envs)))
    venv.close()
    return rows


def test_every_row_is_what_the_environment_alone_answers_at_every_episode_border() -> None:
    rows = play(TASK, 2, 120, max_steps=25)
    generator = np.random.default_rng(0)
    actions = [generator.integers(5, size=2) for _ in range(120)]
    for index in range(2):
        env = make(TASK, seed=3 + index, max_steps=25)
        observation, info = env.reset()
        expected = [(observation, 0.0, True, False, False, info)]
        for sent in actions:
            if expected[-1][3] or expected[-1][4]:
                observation, info = env.reset()
                expected.append((observation, 0.0, True, False, False, info))
                continue
            observation, reward, terminated, truncated, info = env.step(sent[index])
            expected.append((observation, reward, False, terminated, truncated, info))
        assert sum(first for _, _, first, *_ in expected) > 3
        for row, (observation, reward, first, terminated, truncated, info) in zip(
            rows, expected, strict=True
        ):
            assert np.array_equal(row.observation[index], observation)
            assert row.reward[index] == np.float32(reward)
            assert row.is_first[index] == first
            assert row.is_terminal[index] == terminated
            assert row.is_last[index] == (terminated or truncated)
            assert row.events[index] == info["events"]
            assert row.success[index] == info["success"]


def test_a_first_row_follows_each_last_row_and_only_those() -> None:
    rows = play(TASK, 4, 300, max_steps=40)
    for before, after in pairwise(rows):
        assert np.array_equal(before.is_last, after.is_first)
        assert not after.reward[after.is_first].any()
        assert not (after.is_terminal & ~after.is_last).any()


def test_worker_processes_give_the_same_rows() -> None:
    here, there = (play("pinpad:three", 2, 40, processes=p, max_steps=15) for p in (False, True))
    for one, two in zip(here, there, strict=True):
        assert np.array_equal(one.observation, two.observation)
        assert np.array_equal(one.reward, two.reward)
        assert np.array_equal(one.is_first, two.is_first)
        assert np.array_equal(one.success, two.success)
        assert one.events == two.events


def test_rows_keep_their_numbers_when_the_environments_go_on() -> None:
    venv = make_vector("dm_control:cartpole-swingup", 2, seed=0)
    first = venv.reset()
    kept = {key: value.copy() for key, value in first.observation.items()}
    venv.step(np.ones((2, 1), np.float32))
    assert all(np.array_equal(first.observation[key], kept[key]) for key in kept)
    assert not np.array_equal(first.observation["position"][0], first.observation["position"][1])


def test_environments_without_success_or_events_answer_false_and_nothing() -> None:
    rows = make_vector("dm_control:cartpole-swingup", 2, seed=0).reset()
    assert rows.events == [[], []]
    assert rows.success.tolist() == [False, False]


def test_resetting_in_the_middle_starts_all_episodes_anew() -> None:
    venv = make_vector(TASK, 2, seed=0, max_steps=3)
    venv.reset()
    for _ in range(3):
        rows = venv.step(np.zeros(2, np.int64))
    assert rows.is_last.all()
    assert venv.reset(seed=9).is_first.all()
    assert not venv.step(np.zeros(2, np.int64)).is_first.any()


def test_wrong_arguments_are_told_at_once() -> None:
    with pytest.raises(ValueError, match="num_envs: expected at least 1, got 0"):
        make_vector(TASK, 0)
    with pytest.raises(UnknownEnvironmentError, match="did you mean"):
        make_vector("pinpad:tree", 2, processes=True)
