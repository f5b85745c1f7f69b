"""Meta-World: the robot tasks of the paper in their maintained form."""

from __future__ import annotations

import numpy as np
import pytest

from thick.envs import UnknownEnvironmentError, make


@pytest.mark.parametrize("task", ["door-open", "pick-place", "push"])
def test_a_robot_s_task_draws_object_and_goal_from_the_seed(task: str) -> None:
    env = make(f"metaworld:{task}")
    one, again, other = (env.reset(seed=seed)[0] for seed in (1, 1, 2))
    assert one.dtype == np.float32 and one.shape == (39,)
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert not np.array_equal(env.reset()[0], one)  # without a seed the sequence goes on
    observation, reward, terminated, truncated, info = env.step(np.zeros(4, np.float32))
    assert env.observation_space.contains(observation) and reward >= 0
    assert not terminated and not truncated and info == {"events": [], "success": False}
    env.close()


def test_a_scripted_hand_opens_the_door() -> None:
    from metaworld.policies import SawyerDoorOpenV3Policy

    env = make("metaworld:door-open")
    observation, info = env.reset(seed=0)
    policy, events = SawyerDoorOpenV3Policy(), []
    for _ in range(150):
        action = np.clip(policy.get_action(observation.astype(np.float64)), -1, 1).astype(np.float32)
        observation, _, _, _, info = env.step(action)
        events += info["events"]
        if info["success"]:
            break
    assert "solved" in events
    env.close()


def test_the_time_limit_truncates_and_wrong_options_are_refused() -> None:
    env = make("metaworld:push", max_steps=2)
    env.reset(seed=0)
    assert [env.step(np.zeros(4))[3] for _ in range(2)] == [False, True]
    with pytest.raises(ValueError, match="max_steps: expected 1 to 500"):
        make("metaworld:push", max_steps=501)
    with pytest.raises(ValueError, match="camera: expected one of"):
        make("metaworld:push", camera="left")
    with pytest.raises(UnknownEnvironmentError, match="did you mean 'metaworld:door-open'"):
        make("metaworld:door-opne")


@pytest.mark.slow
def test_pixels_show_the_scene() -> None:
    env = make("metaworld:door-open+pixels")
    seen, _ = env.reset(seed=0)
    assert seen.shape == (64, 64, 3) and seen.std() > 5
    env.close()
