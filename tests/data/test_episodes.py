"""Episodes under way go on in another collector, where the environment repeats itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.training import conftest  # noqa: F401  (registers the tasks)
from thick.data.collect import Collector, RandomPolicy
from thick.envs import make

TASKS = ["walk:steps", "walk:push", "minigrid:MiniGrid-DoorKey-5x5-v0+map"]


def _steps(collector: Collector, policy: RandomPolicy, count: int) -> list[dict[str, np.ndarray]]:
    return [collector.step(policy) for _ in range(count)]


@pytest.mark.parametrize("task", TASKS)
def test_a_collector_goes_on_where_another_was(task: str) -> None:
    one, two = (Collector(task, streams=3, seed=4) for _ in range(2))
    policy = RandomPolicy(1)
    _steps(one, policy, 11)
    state = json.loads(json.dumps(one.state()))
    assert two.restore(state) == []
    assert [episode["length"] for episode in two.finished] == [episode["length"] for episode in one.finished]
    # The policy's generator is no part of the collector: both go on with the same actions.
    ahead, behind = _steps(one, RandomPolicy(2), 13), _steps(two, RandomPolicy(2), 13)
    for step, other in zip(ahead, behind, strict=True):
        assert all(np.array_equal(step[name], other[name]) for name in step)
    assert one.finished == two.finished
    assert one.state() == two.state()


def test_an_episode_that_comes_out_otherwise_is_left_and_named() -> None:
    one, two = (
        Collector("walk:steps", streams=2, seed=4, options={"forgetful": forgetful, "length": 20})
        for forgetful in (False, True)
    )
    _steps(one, RandomPolicy(1), 6)
    left = two.restore(one.state())
    assert [text.partition(":")[0] for text in left] == ["stream 0", "stream 1"]
    step = two.step(RandomPolicy(2))
    assert step["is_first"].all()
    assert two.finished == []


def test_an_episode_that_ends_earlier_than_it_did_is_left_and_counts_nowhere() -> None:
    one = Collector("walk:steps", streams=1, seed=4, options={"length": 20})
    two = Collector("walk:steps", streams=1, seed=4, options={"length": 3})
    _steps(one, RandomPolicy(1), 9)
    assert len(two.restore(one.state())) == 1
    assert two.finished == []


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_determines_an_episode_whatever_came_before_it(task: str) -> None:
    """What going on relies on; it holds for the families that come with the package."""
    fresh, used = make(task), make(task)
    for seed in (1, 2):
        used.reset(seed=seed)
        used.step(_action(used, seed))

    def played(env: Any) -> list[bytes]:
        answers = [env.reset(seed=7)[0]]
        answers += [env.step(_action(env, step))[0] for step in range(3)]
        return [
            np.asarray(x).tobytes() for a in answers for x in (a.values() if isinstance(a, dict) else [a])
        ]

    assert played(fresh) == played(used)


def _action(env: Any, seed: int) -> Any:
    env.action_space.seed(seed)
    return env.action_space.sample()
