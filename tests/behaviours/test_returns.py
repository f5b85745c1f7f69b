"""Returns of imagined rollouts, against sums written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thick.behaviours.returns import lambda_returns, long_returns


def rollout(seed: int, horizon: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    reward, value = torch.randn(2, horizon, 3, generator=generator, dtype=torch.float64)
    discount = torch.rand(horizon, 3, generator=generator, dtype=torch.float64)
    return reward, value, discount, torch.randn(3, generator=generator, dtype=torch.float64)


@given(st.integers(0, 1000), st.integers(1, 8), st.floats(0, 1))
def test_a_lambda_return_is_its_recursion(seed: int, horizon: int, lambda_: float) -> None:
    reward, value, discount, bootstrap = rollout(seed, horizon)
    found = lambda_returns(reward, value, discount, bootstrap, lambda_=lambda_)
    values, returns = [*value, bootstrap], [*found, bootstrap]
    for step in range(horizon):
        mixed = (1 - lambda_) * values[step + 1] + lambda_ * returns[step + 1]
        torch.testing.assert_close(found[step], reward[step] + discount[step] * mixed)


@given(st.integers(0, 1000))
def test_lambda_of_zero_looks_one_step_ahead_and_of_one_to_the_horizon(seed: int) -> None:
    reward, value, discount, bootstrap = rollout(seed, 3)
    near = lambda_returns(reward, value, discount, bootstrap, lambda_=0.0)
    torch.testing.assert_close(near[0], reward[0] + discount[0] * value[1])
    far = lambda_returns(reward, value, discount, bootstrap, lambda_=1.0)
    expected = reward[0] + discount[0] * (reward[1] + discount[1] * (reward[2] + discount[2] * bootstrap))
    torch.testing.assert_close(far[0], expected)


def test_a_terminal_reward_survives_a_jump() -> None:
    # The episode ends at the change: nothing follows it, but the reward received there counts.
    found = long_returns(
        torch.tensor(0.5), torch.tensor(0.99**10), torch.tensor(1.0), torch.tensor(0.0), torch.tensor(7.0)
    )
    assert found.item() == pytest.approx(0.5 + 0.99**10)
