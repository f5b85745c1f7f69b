"""Counter-based random numbers."""

from __future__ import annotations

import math

import pytest
import torch

from tests.planning.toys import randomness
from thick.planning.randomness import Randomness, _mix
from thick.planning.settings import mix64, session_key


def test_the_tensor_hash_is_the_published_splitmix64() -> None:
    values = [0, 1, 2**63, 2**64 - 1, 0x0123456789ABCDEF]
    signed = torch.tensor([value - 2**64 if value >= 2**63 else value for value in values])
    assert [int(x) % 2**64 for x in _mix(signed.clone())] == [mix64(value) for value in values]
    # The first output of SplitMix64 seeded with 0 (reference implementation by S. Vigna).
    assert mix64(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_a_sessions_numbers_do_not_depend_on_its_batch_mates() -> None:
    together, alone = randomness(3, 5, 7), randomness(5)
    for draw in ("uniform", "normal", "gumbel"):
        many = getattr(together.fold("x").fold(4), draw)(3, 11)
        assert torch.equal(many[1:2], getattr(alone.fold("x").fold(4), draw)(3, 11)), draw


def test_folds_and_seeds_give_different_numbers() -> None:
    source = randomness(1)
    draws = [source, source.fold(0), source.fold(1), source.fold("a"), source.fold("b"), randomness(2)]
    draws += [source.fold(0).fold(1), source.fold(1).fold(0)]
    flat = torch.stack([each.uniform(50)[0] for each in draws])
    for first in range(len(draws)):
        for second in range(first):
            assert (flat[first] == flat[second]).float().mean() < 0.1


def test_uniform_and_normal_have_their_moments_and_are_not_correlated() -> None:
    source = Randomness(torch.arange(64))
    uniform, normal = source.uniform(4000), source.normal(4000)
    assert float(uniform.min()) >= 0 and float(uniform.max()) < 1
    assert abs(float(uniform.mean()) - 0.5) < 3e-3 and abs(float(uniform.var()) - 1 / 12) < 2e-3
    assert abs(float(normal.mean())) < 8e-3 and abs(float(normal.std()) - 1) < 5e-3
    assert bool(torch.isfinite(normal).all())
    neighbours = torch.corrcoef(torch.stack([normal[:, 1:].flatten(), normal[:, :-1].flatten()]))[0, 1]
    sessions = torch.corrcoef(torch.stack([normal[1:].flatten(), normal[:-1].flatten()]))[0, 1]
    assert abs(float(neighbours)) < 8e-3 and abs(float(sessions)) < 8e-3


def test_gumbel_draws_a_categorical() -> None:
    probability = torch.tensor([0.1, 0.2, 0.7])
    drawn = (probability.log() + Randomness(torch.arange(20)).gumbel(1000, 3)).argmax(-1)
    shares = torch.bincount(drawn.flatten(), minlength=3) / drawn.numel()
    assert torch.allclose(shares, probability, atol=0.01)


def test_session_keys_are_int64_and_differ_by_seed_and_step() -> None:
    keys = {session_key(seed, step) for seed in (0, 1, 2**62) for step in range(100)}
    assert len(keys) == 300
    assert torch.tensor(sorted(keys)).dtype == torch.int64
    assert min(keys) < 0 < max(keys) and math.log2(max(keys)) < 63


def test_keys_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"int64 array \[B\]"):
        Randomness(torch.zeros(3))
