"""Functions with a gradient of their own equal the plain forms in their docstrings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from thick.models.distributions import log_softmax
from thick.models.functions import balanced_kl, elu, log_prob_of_cells


def same(found: Callable[..., Tensor], wanted: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Values and gradients, for an uneven weight on every output."""
    results = []
    for function in (found, wanted):
        given = [each.clone().requires_grad_() for each in inputs]
        value = function(*given)
        weight = torch.linspace(-1, 2, value.numel()).reshape(value.shape)
        results.append((value, *torch.autograd.grad((weight * value).sum(), given)))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_elu_with_gradient_and_in_place_without() -> None:
    x = torch.cat([torch.randn(50) * 5, torch.tensor([0.0, -1e-4, 1e-4, -100.0, 100.0])])
    same(elu, F.elu, x)
    with torch.no_grad():
        torch.testing.assert_close(elu(x.clone()), F.elu(x), rtol=1e-5, atol=1e-6)
        half = x.bfloat16()
        assert torch.equal(elu(half.clone()), F.elu(half))


@pytest.mark.parametrize("balance", [0.8, 0.0, 1.0])
def test_the_balanced_kl_trains_each_side_by_its_weight(balance: float) -> None:
    def plain(posterior: Tensor, prior: Tensor) -> Tensor:
        def kl(p: Tensor, q: Tensor) -> Tensor:
            return (log_softmax(p).exp() * (log_softmax(p) - log_softmax(q))).sum((-2, -1))

        return balance * kl(posterior.detach(), prior) + (1 - balance) * kl(posterior, prior.detach())

    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 5, 4, 6)
    same(lambda q, p: balanced_kl(q, p, balance)[0], plain, *logits)
    loss, value = balanced_kl(logits[0].requires_grad_(), logits[1], balance)
    assert torch.equal(loss, value)
    assert not value.requires_grad


def test_cells_of_a_grid_are_categoricals_channel_by_channel() -> None:
    torch.manual_seed(0)
    categories = (5, 1, 3)
    grid = torch.stack([torch.randint(count, (2, 3, 4, 4)) for count in categories], -1).to(torch.uint8)

    def plain(logits: Tensor) -> Tensor:
        total = torch.zeros(2, 3)
        for channel, part in enumerate(logits.split(categories, -3)):
            index = grid[..., channel].long().unsqueeze(-3)
            total = total + part.log_softmax(-3).gather(-3, index).sum((-3, -2, -1))
        return total

    same(lambda logits: log_prob_of_cells(logits, grid, categories), plain, torch.randn(2, 3, 9, 4, 4))
