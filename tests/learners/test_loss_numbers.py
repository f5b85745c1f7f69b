"""The losses of world model and level against a second reading of their equations, in plain numpy.

``python scripts/mutants.py`` plants mistakes in the losses, and these tests must find them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.sizes import ACTIONS, CONTINUOUS, DISCRETE, VECTOR, batch, model
from thick.learners.level import segment_batch
from thick.learners.parts import Part, Shared
from thick.learners.recipes import RECIPES
from thick.models.networks import AgentNetworks
from thick.training.config import TrainConfig

LOG_2PI = np.log(2 * np.pi)


def parts(networks: AgentNetworks) -> list[Part]:
    return RECIPES["thick-planet"](networks, TrainConfig(model=networks.config)).parts


def plain(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Of categoricals given by logits, ``[..., K] -> [...]``."""
    p, q = log_softmax(p), log_softmax(q)
    return (np.exp(p) * (p - q)).sum(-1)


def normal(x: np.ndarray, mean: np.ndarray, std: np.ndarray | float = 1.0) -> np.ndarray:
    """Negative log density."""
    return 0.5 * (((x - mean) / std) ** 2 + LOG_2PI) + np.log(std)


@pytest.mark.parametrize("path", ["", "coarse_"])
def test_the_terms_of_the_world_model(path: str) -> None:
    networks = model(VECTOR, CONTINUOUS, discount=0.9, clip_rewards="tanh").eval()
    world, data = networks.world, batch(VECTOR, CONTINUOUS)
    shared = Shared(data, world.observe(data))
    terms = parts(networks)[0].losses(shared).terms
    trajectory, posterior = shared.trajectory, shared.trajectory.posterior
    if path:
        heads, prior = world.coarse_heads, trajectory.coarse_logits
        feature = torch.cat([posterior.stoch.flatten(-2), posterior.context], -1)
    else:
        heads, prior = world.heads, trajectory.prior_logits
        feature = world.dynamics.features(posterior)
    assert heads is not None and heads.discount is not None and prior is not None
    (seen,) = data.observation.values()
    (decoded,) = heads.decoder(feature).values()
    expected = {
        "decoder": normal(plain(seen), plain(decoded)).sum(-1),
        "reward": normal(np.tanh(plain(data.reward)), plain(heads.reward(feature))[..., 0]),
        "kl": kl(plain(posterior.logits), plain(prior)).sum(-1),
    }
    going_on = 1 / (1 + np.exp(-plain(heads.discount(feature))[..., 0]))
    target = 0.9 * (1 - plain(data.is_terminal))
    expected["discount"] = -(target * np.log(going_on) + (1 - target) * np.log(1 - going_on))
    for name, values in expected.items():
        assert terms[path + name].item() == pytest.approx(values.mean(), rel=1e-5), name


@pytest.mark.parametrize("posterior", ["full", "observation"])
def test_z_is_drawn_and_compared_with_its_share_of_the_uniform_distribution(posterior: str) -> None:
    networks = {share: model(VECTOR, posterior=posterior, unimix=share).eval() for share in (0.0, 0.25)}
    data = batch(VECTOR)
    before, after = (each.world.observe(data).posterior for each in networks.values())
    # The first step starts from nothing in both: its distribution is the plain one, mixed.
    p = np.exp(log_softmax(plain(before.logits[:, 0])))
    np.testing.assert_allclose(plain(after.logits[:, 0]), np.log(0.75 * p + 0.25 / 5), rtol=1e-5)
    shared = Shared(data, networks[0.25].world.observe(data))
    terms, trajectory = parts(networks[0.25])[0].losses(shared).terms, shared.trajectory
    for name, prior in (("kl", trajectory.prior_logits), ("coarse_kl", trajectory.coarse_logits)):
        assert np.exp(plain(prior)).min() >= 0.25 / 5 - 1e-6
        np.testing.assert_allclose(np.exp(plain(prior)).sum(-1), 1, rtol=1e-5)
        expected = kl(plain(trajectory.posterior.logits), plain(prior)).sum(-1).mean()
        assert terms[name].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("posterior", ["full", "observation"])
def test_z_is_drawn_as_often_as_its_probability_says(posterior: str, share: float) -> None:
    networks = model(VECTOR, posterior=posterior, unimix=share).eval()
    dynamics, count = networks.world.dynamics, 4000
    with torch.no_grad():
        dynamics.obs_logit.bias[0] = 6.0  # all but certain, if it were not mixed
    embed = torch.zeros(count, 1, networks.world.encoder.size)
    seen = dynamics.observe(embed, torch.zeros(count, 1, 4), torch.ones(count, 1)).posterior
    drawn = plain(seen.stoch).mean(0)[0, 0]
    wanted = np.exp(log_softmax(plain(seen.logits[0, 0])))[0]
    np.testing.assert_allclose(drawn, wanted, atol=0.03)
    assert (wanted[0] > 0.95) == (share == 0)


def test_open_gates_cost_their_share_and_what_is_closed_costs_nothing() -> None:
    networks = model(VECTOR).eval()
    shared = Shared(batch(VECTOR), networks.world.observe(batch(VECTOR)))
    terms = parts(networks)[0].losses(shared).terms
    assert terms["sparsity"].item() == pytest.approx(plain(shared.trajectory.posterior.gates).mean())


@pytest.mark.parametrize("name", ["kl", "coarse_kl"])
def test_a_prior_learns_with_the_weight_of_the_balance_and_the_posterior_with_the_rest(name: str) -> None:
    networks = model(VECTOR, kl_balance=0.7).eval()
    data = batch(VECTOR)
    shared = Shared(data, networks.world.observe(data))
    trajectory = shared.trajectory
    prior = trajectory.prior_logits if name == "kl" else trajectory.coarse_logits
    posterior = trajectory.posterior.logits
    assert prior is not None
    loss = parts(networks)[0].losses(shared).terms[name]
    found = torch.autograd.grad(loss, (posterior, prior), retain_graph=True)
    p, q = posterior.detach().requires_grad_(), prior.detach().requires_grad_()
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    whole = (log_p.exp() * (log_p - log_q)).sum((-1, -2)).mean()
    to_posterior, to_prior = torch.autograd.grad(whole, (p, q))
    torch.testing.assert_close(found[1], 0.7 * to_prior, rtol=1e-4, atol=1e-8)
    if name == "coarse_kl":  # the fine prior's losses reach the posterior by other ways too
        torch.testing.assert_close(found[0], 0.3 * to_posterior, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", ["decoder", "reward", "discount"])
def test_both_paths_teach_the_latent_what_their_heads_need(name: str) -> None:
    networks = model(VECTOR).eval()
    data = batch(VECTOR)
    shared = Shared(data, networks.world.observe(data))
    terms, posterior = parts(networks)[0].losses(shared).terms, shared.trajectory.posterior
    for term, read in (
        (terms[name], (posterior.stoch, posterior.deter, posterior.context)),
        (terms[f"coarse_{name}"], (posterior.stoch, posterior.context)),
    ):
        found = torch.autograd.grad(term, read, retain_graph=True)
        assert all(bool(gradient.any()) for gradient in found)
    blind = torch.autograd.grad(terms[f"coarse_{name}"], posterior.deter, allow_unused=True)
    assert blind == (None,), "the coarse path never reads h"


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_the_terms_of_a_level(action: Any) -> None:
    networks = model(VECTOR, action).eval()
    world, level = networks.world, networks.hierarchy[0]
    data = batch(VECTOR, action)
    shared = Shared(data, world.observe(data))
    segments = segment_batch(world, networks.config.levels[0], data, shared.posterior)
    chosen = torch.nn.functional.one_hot(torch.arange(44).reshape(4, 11) % 3, 3).float()
    terms, _ = level.losses(segments, balance=0.8, high_action=chosen)
    said = level.predict(segments.stoch, segments.context, chosen)
    prior = level.prior(segments.stoch, segments.context)
    posterior = level.posterior(
        segments.stoch, segments.context, segments.next_context, segments.target_stoch
    )
    mask = plain(segments.mask)
    assert 4 < mask.sum() < mask.size
    expected = {
        "state": kl(plain(segments.target_logits), plain(said.stoch_logits)).sum(-1),
        "high_action": kl(plain(posterior), plain(prior)),
        "time": normal(plain(segments.elapsed), plain(said.time), plain(said.time_std)),
        "returns": normal(plain(segments.returns), plain(said.returns)),
    }
    if action is DISCRETE:
        expected["action"] = -(plain(segments.action) * log_softmax(plain(said.action))).sum(-1)
    else:
        assert said.action_std is not None
        mean, std = plain(said.action), plain(said.action_std)
        points = np.linspace(-1, 1, 20_001)
        density = np.exp(-normal(points[:, None, None, None], mean, std))
        mass = (
            np.trapezoid(density, points, axis=0)
            if hasattr(np, "trapezoid")
            else np.trapz(density, points, axis=0)
        )
        expected["action"] = (normal(plain(segments.action), mean, std) + np.log(mass)).sum(-1)
    for name, values in expected.items():
        assert terms[name].item() == pytest.approx((values * mask).mean(), rel=1e-4), name


def test_a_level_is_taught_by_the_posterior_with_the_balance_and_by_nothing_else() -> None:
    networks = model(VECTOR).eval()
    world, level = networks.world, networks.hierarchy[0]
    data = batch(VECTOR)
    segments = segment_batch(
        world, networks.config.levels[0], data, Shared(data, world.observe(data)).posterior
    )
    assert not any(part.requires_grad for part in segments)
    chosen = torch.nn.functional.one_hot(torch.zeros(4, 11, dtype=torch.long), 3).float()
    term = level.losses(segments, balance=0.9, high_action=chosen)[0]["high_action"]
    halves = level.losses(segments, balance=0.45, high_action=chosen)[0]["high_action"]
    prior = list(level.prior_logit.parameters())
    posterior = list(level.posterior_logit.parameters())
    for weights, ratio in ((prior, 0.45 / 0.9), (posterior, 0.55 / 0.1)):
        one = torch.autograd.grad(term, weights, retain_graph=True)
        other = torch.autograd.grad(halves, weights, retain_graph=True)
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(b, ratio * a, rtol=1e-3, atol=1e-8)


def test_segments_are_a_plain_reading_of_what_was_filtered() -> None:
    """For every step: the first later step of the same episode whose context changed, and what lies around it."""
    networks = model(VECTOR, CONTINUOUS, discount=0.9).eval()
    world, data = networks.world, batch(VECTOR, CONTINUOUS)
    posterior = Shared(data, world.observe(data)).posterior
    found = segment_batch(world, networks.config.levels[0], data, posterior)
    first, reward = plain(data.is_first), plain(world.target_reward(data.reward))
    context, gates = plain(posterior.context), plain(posterior.gates)
    checked = 0
    for row in range(4):
        for now in range(11):
            end = None
            for later in range(now + 1, 12):
                if first[row, later]:
                    break
                moved = context[row, later] != context[row, later - 1]
                if (moved & (gates[row, later] > 0)).any():
                    end = later
                    break
            assert bool(found.mask[row, now]) == (end is not None)
            if end is None:
                continue
            checked += 1
            assert found.elapsed[row, now].item() == end - 1 - now
            returns = sum(0.9 ** (k - now) * reward[row, k] for k in range(now, end))
            assert found.returns[row, now].item() == pytest.approx(returns, abs=1e-5)
            for name, sequence, at in (
                ("next_context", posterior.context, end),
                ("target_stoch", posterior.stoch, end - 1),
                ("target_logits", posterior.logits, end - 1),
                ("action", data.action, end),
                ("stoch", posterior.stoch, now),
                ("context", posterior.context, now),
            ):
                torch.testing.assert_close(getattr(found, name)[row, now], sequence[row, at], msg=name)
    assert checked > 4
