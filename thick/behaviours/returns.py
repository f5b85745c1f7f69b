"""Returns of imagined rollouts: the λ-return of Dreamer and the long return of THICK Dreamer."""

from __future__ import annotations

import torch
from torch import Tensor


def lambda_returns(
    reward: Tensor, value: Tensor, discount: Tensor, bootstrap: Tensor, *, lambda_: float = 0.95
) -> Tensor:
    """V^λ[t] = r[t] + γ[t] ((1 - λ) v[t+1] + λ V^λ[t+1]), with V^λ[H] = v[H] = ``bootstrap``.

    Args:
        reward: ``[H, *B]``, received on entering step t.
        value: ``[H, *B]``, of the state at t.
        discount: ``[H, *B]``, γ times the probability that the episode goes on after t.
        bootstrap: ``[*B]``, the value of the state after the last step.
        lambda_: λ, 0 looks one step ahead, 1 to the horizon.

    Returns:
        ``[H, *B]``.
    """
    following = torch.cat([value[1:], bootstrap.unsqueeze(0)])
    one_step = reward + discount * following * (1 - lambda_)
    last = bootstrap
    returns = []
    for step in range(reward.shape[0] - 1, -1, -1):
        last = one_step[step] + discount[step] * lambda_ * last
        returns.append(last)
    return torch.stack(returns[::-1])


def long_returns(
    segment_return: Tensor, segment_discount: Tensor, reward: Tensor, discount: Tensor, value: Tensor
) -> Tensor:
    """V_long = R + γ^Δ (r[τ] + γ[τ] v(s[τ])): the return over one jump of the high level (THICK).

    Args:
        segment_return: R ``[*B]``, the discounted return before the change.
        segment_discount: γ^Δ ``[*B]``, with Δ the steps up to the change.
        reward: r[τ] ``[*B]``, received with the change.
        discount: γ[τ] ``[*B]``, γ times the probability that the episode goes on after τ.
        value: v(s[τ]) ``[*B]``, of the coarse critic.

    Returns:
        ``[*B]``.
    """
    return segment_return + segment_discount * (reward + discount * value)
