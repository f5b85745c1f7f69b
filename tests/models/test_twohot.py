"""Heads that predict numbers as distributions over bins, and layers that are normalised."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thick.models.bins import BINS, bins
from thick.models.layers import MLP, ScalarHead
from thick.models.twohot import twohot, twohot_log_prob, twohot_mean

NUMBERS = torch.tensor([-8102.0, -500.0, -3.3, -1.0, -0.05, 0.0, 0.01, 0.5, 1.0, 17.0, 8102.0])


def test_bins_are_opposite_each_other_and_grow_with_the_number() -> None:
    places = bins()
    assert places[BINS // 2] == 0
    np.testing.assert_array_equal(places, -places[::-1])
    steps = np.diff(places)
    assert (np.diff(steps[BINS // 2 :]) > 0).all()


def test_a_number_is_between_its_two_bins_and_their_mean() -> None:
    below, share = twohot(NUMBERS)
    places = torch.tensor(bins(), dtype=torch.float32)
    assert ((share >= 0) & (share <= 1)).all()
    torch.testing.assert_close(
        (1 - share) * places[below] + share * places[below + 1], NUMBERS, rtol=1e-5, atol=1e-5
    )
    logits = torch.full((len(NUMBERS), BINS), -1e9)
    rows = torch.arange(len(NUMBERS))
    logits[rows, below], logits[rows, below + 1] = torch.log(1 - share), torch.log(share)
    torch.testing.assert_close(twohot_mean(logits).squeeze(-1), NUMBERS, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [-1e6, -float("inf"), 1e9, float("inf")])
def test_what_lies_beyond_the_bins_counts_as_the_last_of_them(number: float) -> None:
    below, share = twohot(torch.tensor([number]))
    assert (below.item(), share.item()) == ((0, 0.0) if number < 0 else (BINS - 2, 1.0))


def test_the_log_likelihood_is_that_of_numpy() -> None:
    logits = torch.randn(len(NUMBERS), BINS, generator=torch.Generator().manual_seed(0))
    found = twohot_log_prob(logits, NUMBERS)
    places = bins()
    for row, number, value in zip(logits.double().numpy(), NUMBERS.double().numpy(), found, strict=True):
        log_probs = row - np.log(np.exp(row).sum())
        weights = np.maximum(0, [np.interp(number, places, np.eye(BINS)[i]) for i in range(BINS)])
        np.testing.assert_allclose(value.item(), (weights * log_probs).sum(), rtol=1e-4)


def test_the_best_distribution_of_several_numbers_has_their_mean() -> None:
    numbers = torch.tensor([0.0, 0.0, 1.0, 20.0])
    logits = torch.zeros(BINS, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        (-twohot_log_prob(logits.expand(4, -1), numbers).mean()).backward()
        optimizer.step()
    assert twohot_mean(logits.detach()).item() == pytest.approx(numbers.mean().item(), rel=0.02)


def test_a_head_of_bins_says_zero_before_it_has_learned_and_then_what_it_was_told() -> None:
    torch.manual_seed(0)
    head, features = ScalarHead(6, 16, 1, form="twohot"), torch.randn(8, 6)
    assert torch.equal(head(features), torch.zeros(8, 1))
    target = torch.tensor([-40.0, -2.0, -0.5, 0.0, 0.25, 1.0, 10.0, 300.0])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(400):
        optimizer.zero_grad()
        (-head.log_prob(features, target).mean()).backward()
        optimizer.step()
    torch.testing.assert_close(head(features).detach().squeeze(-1), target, rtol=0.05, atol=0.1)


def test_normalised_layers_are_those_of_numpy() -> None:
    torch.manual_seed(0)
    mlp, x = MLP(5, 7, 2, 3, norm="rms"), torch.randn(4, 5)
    for index in range(2):
        torch.nn.init.uniform_(mlp.get_submodule(f"norm{index}").weight, 0.5, 2.0)
    weights = {name: value.double().numpy() for name, value in mlp.state_dict().items()}
    y = x.double().numpy()
    for index in range(2):
        y = y @ weights[f"dense{index}.weight"].T + weights[f"dense{index}.bias"]
        y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-4) * weights[f"norm{index}.weight"]
        y = y / (1 + np.exp(-y))
    y = y @ weights["out.weight"].T + weights["out.bias"]
    np.testing.assert_allclose(mlp(x).detach().numpy(), y, rtol=1e-5, atol=1e-5)
