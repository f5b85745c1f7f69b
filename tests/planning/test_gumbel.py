"""Sequential halving at the root: a schedule that is published, and actions no worse than the prior's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.planning.border import InNumpy
from tests.planning.plain import Bandit
from tests.planning.toys import Chance, ChanceModel, chance
from thick.arrays import NUMPY
from thick.planning.gumbel import GumbelSearch, considered_visits
from thick.planning.randomness import Randomness


def search(model: Any, simulations: int, **options: Any) -> GumbelSearch:
    tree = GumbelSearch(model, simulations=simulations, **({"depth": 3} | options))
    while not tree.done:
        tree.step()
    return tree


def test_the_schedule_tries_all_equally_and_drops_the_worse_half() -> None:
    assert considered_visits(4, 8) == [0, 0, 0, 0, 1, 1, 2, 2]
    assert considered_visits(4, 16) == [0] * 4 + [1] * 4 + [2, 2, 3, 3, 4, 4, 5, 5]
    assert considered_visits(1, 3) == [0, 1, 2] and considered_visits(5, 2) == [0, 0]


def test_with_few_simulations_the_best_action_is_found_against_the_prior() -> None:
    prior = np.array([[0.55, 0.25, 0.15, 0.05]])
    reward = np.array([[0.0, 0.1, 0.2, 1.0]])
    tree = search(Bandit(prior, reward), 8)
    assert tree.best().tolist() == [3]
    assert sorted(tree.root_visits[0].tolist()) == [1, 1, 3, 3] and tree.root_visits[0, 3] == 3


def test_the_action_is_no_worse_than_what_the_prior_draws() -> None:
    rng = np.random.default_rng(0)
    prior = rng.dirichlet(np.ones(8), 400)
    reward = rng.standard_normal((400, 8))
    rows = np.arange(400)
    drawn = search(Bandit(prior, reward), 8, scale=1.0, randomness=Randomness(rows))
    found, expected = reward[rows, drawn.best()], (prior * reward).sum(-1)
    assert found.mean() > expected.mean() + 0.5
    calm = search(Bandit(prior, reward), 8)
    assert (reward[rows, calm.best()] >= reward[rows, prior.argmax(-1)] - 1e-6).all()


def test_noise_is_the_sessions_own_and_there_is_none_at_temperature_0() -> None:
    model = InNumpy(ChanceModel(chance(5, 30)))
    keys = np.arange(30)
    noisy = search(model, 12, scale=4.0, randomness=Randomness(keys))
    again = search(model, 12, scale=4.0, randomness=Randomness(keys))
    other = search(model, 12, scale=4.0, randomness=Randomness(keys + 9))
    assert (noisy.root_visits == again.root_visits).all()
    assert (noisy.root_visits != other.root_visits).any()
    assert (search(model, 12).root_visits == search(model, 12, randomness=Randomness(keys)).root_visits).all()


def test_a_batch_is_exactly_its_sessions_one_by_one() -> None:
    world = chance(1, 4)
    together = search(InNumpy(ChanceModel(world)), 30)
    for row in range(4):
        alone = search(InNumpy(ChanceModel(Chance(*(part[row : row + 1] for part in world)))), 30)
        assert (alone.root_visits[0] == together.root_visits[row]).all()
        assert (alone.root_values[0] == together.root_values[row]).all()
        assert (alone.path().nodes[0] == together.path().nodes[row]).all()


def test_actions_below_the_root_are_tried_in_the_proportions_of_the_improved_policy() -> None:
    tree = search(InNumpy(ChanceModel(chance(2, 1, actions=2))), 60)
    node = tree._trees[0].nodes[tree._trees[0].nodes[0].child[tree.best()[0]]]
    low, high = min(node.values), max(node.values)
    scale = (50 + max(node.visits)) * 0.1 / max(high - low, 0.01)
    weights = [p * math.exp((v - low) * scale) for p, v in zip(node.prior, node.values, strict=True)]
    shares = np.array(weights) / sum(weights)
    assert np.abs(np.array(node.visits) / node.total - shares).max() < 0.12


@pytest.mark.parametrize("simulations", [1, 2, 5])
def test_there_is_a_valid_answer_at_any_time(simulations: int) -> None:
    model = InNumpy(ChanceModel(chance(3, 3)))
    tree = GumbelSearch(model, simulations=simulations, depth=3)
    assert (tree.best() == NUMPY.array(model.evaluate(model.root()).prior).argmax(-1)).all()
    while not tree.done:
        tree.step()
        assert tree.path(tree.best()).actions[:, 0].min() >= -1
