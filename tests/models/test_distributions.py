"""The distributions of the model, against numbers found in another way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thick.models.distributions import (
    bernoulli_log_prob,
    categorical_kl,
    normal_log_prob,
    one_hot_mode,
    one_hot_sample,
    truncated_normal_entropy,
    truncated_normal_log_prob,
    truncated_normal_sample,
)
from thick.models.functions import balanced_kl


def test_the_two_sides_of_a_balanced_kl_learn_in_the_given_proportion() -> None:
    torch.manual_seed(0)
    posterior = torch.randn(6, 4, 5, requires_grad=True)
    prior = torch.randn(6, 4, 5, requires_grad=True)
    plain = categorical_kl(posterior, prior).sum()
    whole = torch.autograd.grad(plain, (posterior, prior))
    loss, value = balanced_kl(posterior, prior, 0.8)
    found = torch.autograd.grad(loss.sum(), (posterior, prior))
    torch.testing.assert_close(found[0], 0.2 * whole[0])
    torch.testing.assert_close(found[1], 0.8 * whole[1])
    torch.testing.assert_close(loss.detach(), value)
    torch.testing.assert_close(value.sum(), plain.detach())
    assert not value.requires_grad


@given(st.integers(0, 10_000))
def test_a_kl_is_zero_for_equals_and_positive_otherwise(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, 3, 4, generator=generator)
    assert categorical_kl(one, one + 7.0).abs().max() < 1e-5  # logits are free up to a constant
    assert categorical_kl(one, other).min() > 0


def test_samples_are_as_frequent_as_their_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    generator = torch.Generator().manual_seed(0)
    samples = one_hot_sample(probabilities.log().expand(20_000, 4), generator)
    assert set(samples.unique().tolist()) == {0.0, 1.0}
    assert samples[:, 1].sum() == 0
    torch.testing.assert_close(samples.mean(0), probabilities, atol=0.015, rtol=0)


def test_a_sample_has_the_gradient_of_its_probabilities() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 5, requires_grad=True)
    weight = torch.randn(3, 5)
    (through,) = torch.autograd.grad((one_hot_sample(logits) * weight).sum(), logits)
    (direct,) = torch.autograd.grad((logits.softmax(-1) * weight).sum(), logits)
    torch.testing.assert_close(through, direct)


def test_a_mode_is_the_largest_logit() -> None:
    assert one_hot_mode(torch.tensor([[0.1, 3.0, -1.0]])).tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.9, 0.1), (-0.99, 2.1), (0.3, 0.5)])
def test_a_truncated_normal_holds_all_its_mass_between_minus_one_and_one(mean: float, std: float) -> None:
    x = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    density = truncated_normal_log_prob(x, torch.full_like(x, mean), torch.full_like(x, std)).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.9, 0.1), (-0.99, 2.1), (0.3, 0.5)])
def test_entropy_and_samples_of_a_truncated_normal_are_those_of_its_density(mean: float, std: float) -> None:
    x = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    density = torch.exp(-0.5 * ((x - mean) / std) ** 2)
    density = density / torch.trapezoid(density, x)
    entropy = -torch.trapezoid(density * density.clamp_min(1e-300).log(), x).item()
    found = truncated_normal_entropy(torch.tensor(mean), torch.tensor(std)).item()
    assert found == pytest.approx(entropy, abs=2e-3)
    torch.manual_seed(0)
    drawn = truncated_normal_sample(torch.full((40_000,), mean), torch.full((40_000,), std)).double()
    first, second = (torch.trapezoid(density * x**power, x).item() for power in (1, 2))
    assert drawn.mean().item() == pytest.approx(first, abs=0.01)
    assert (drawn**2).mean().item() == pytest.approx(second, abs=0.01)


def test_a_truncated_normal_stays_finite_where_it_is_hardly_ever() -> None:
    value = truncated_normal_log_prob(torch.tensor([-1.0, 1.0]), torch.tensor([1.0, -1.0]), torch.tensor(0.1))
    assert bool(value.isfinite().all())
    assert value.max() < -100


def test_a_normal_is_that_of_torch() -> None:
    torch.manual_seed(0)
    value, mean, std = torch.randn(5), torch.randn(5), torch.rand(5) + 0.1
    expected = torch.distributions.Normal(mean, std).log_prob(value)
    torch.testing.assert_close(normal_log_prob(value, mean, std), expected)
    torch.testing.assert_close(
        normal_log_prob(value, mean), torch.distributions.Normal(mean, 1.0).log_prob(value)
    )


def test_a_soft_target_of_a_bernoulli_is_fitted_best_by_its_own_probability() -> None:
    logits = torch.linspace(-8, 8, 1601)
    best = logits[bernoulli_log_prob(logits, torch.full_like(logits, 0.99)).argmax()]
    assert torch.sigmoid(best).item() == pytest.approx(0.99, abs=1e-3)
