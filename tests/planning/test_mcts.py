"""Tree search: a golden tree, a plain search beside it, and what must always hold."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.planning.toys import Chance, ChanceModel, chance, randomness
from thick.planning.mcts import MCTS
from thick.planning.tree import Tree, levels_within


def search(model: Any, simulations: int, **options: Any) -> MCTS:
    tree = MCTS(model, simulations=simulations, **({"depth": 4, "chunk": 7} | options))
    while not tree.done:
        tree.step()
    return tree


class Plain:
    """PUCT with one Python object a node, after MuZero's published pseudocode (appendix B of the paper)."""

    def __init__(self, tree: Chance, row: int, depth: int) -> None:
        self.tree, self.row, self.depth = tree, row, depth
        self.actions = tree.prior.shape[-1]
        self.low, self.high = math.inf, -math.inf
        self.nodes: dict[int, dict[str, list[float]]] = {}
        self._add(0)

    def _add(self, index: int) -> float:
        self.nodes[index] = {"visits": [0.0] * self.actions, "values": [0.0] * self.actions}
        return float(self.tree.value[self.row, index])

    def _normalised(self, node: dict[str, list[float]], action: int) -> float:
        if node["visits"][action] == 0:
            return 0.0
        return (node["values"][action] - self.low) / max(self.high - self.low, 0.01)

    def _select(self, index: int) -> int:
        node = self.nodes[index]
        total = 1 + sum(node["visits"])
        rate = 1.25 + math.log((total + 19652 + 1) / 19652)
        scores = [
            self._normalised(node, action)
            + rate
            * float(self.tree.prior[self.row, index, action])
            * math.sqrt(total)
            / (1 + node["visits"][action])
            for action in range(self.actions)
        ]
        return scores.index(max(scores))

    def simulate(self) -> None:
        index, path = 0, []
        while True:
            action = self._select(index)
            child = self.actions * index + 1 + action
            path.append((index, action, child))
            if child not in self.nodes:
                value = self._add(child)
                break
            if len(path) == self.depth:
                value = float(self.tree.value[self.row, child])
                break
            index = child
        for index, action, child in reversed(path):
            value = (
                float(self.tree.reward[self.row, child]) + float(self.tree.discount[self.row, child]) * value
            )
            node = self.nodes[index]
            node["visits"][action] += 1
            node["values"][action] += (value - node["values"][action]) / node["visits"][action]
            self.low, self.high = (
                min(self.low, node["values"][action]),
                max(self.high, node["values"][action]),
            )


@pytest.mark.parametrize("actions", [2, 3])
def test_the_batched_tree_is_the_plain_one(actions: int) -> None:
    world = chance(5, 6, actions=actions)
    tree = search(ChanceModel(world), 40, depth=3)
    for row in range(6):
        plain = Plain(world, row, depth=3)
        for _ in range(40):
            plain.simulate()
        assert tree.root_visits[row].tolist() == plain.nodes[0]["visits"]
        assert tree.root_values[row].tolist() == pytest.approx(plain.nodes[0]["values"], abs=1e-5)


def test_the_golden_tree() -> None:
    """Two actions, γ 0.9, worked out by hand.

    Left (prior 0.8) pays nothing and leads to a node worth 0.5, and so do the two nodes behind it; right (prior 0.2)
    pays 1 and leads nowhere. 1: left by its prior, worth 0.9 · 0.5 = 0.45. 2: all values so far are equal, so they
    count 0, and left explores 1.25 · 0.8 · √2 / 2 = 0.71, right 1.25 · 0.2 · √2 = 0.35: left, then left again, worth
    0.9² · 0.5 = 0.405; the mean is 0.4275. 4 finds the other node worth 0.5 behind it; all others end in nothing, so
    left sinks to 8 · 0.1575 = 0.45 + 2 · 0.405. 9: left counts 0.1575 / 0.45 = 0.35 and explores 1.25 · 0.8 · 3 / 9 =
    0.33, right explores 1.25 · 0.2 · 3 = 0.75: right at last, worth 1, which from now on counts 1 against 0.16.
    """
    nodes = 15
    prior = torch.full((1, nodes, 2), 0.5)
    prior[0, 0] = torch.tensor([0.8, 0.2])
    value, reward = torch.zeros(1, nodes), torch.zeros(1, nodes)
    value[0, 1], value[0, 3], value[0, 4] = 0.5, 0.5, 0.5
    reward[0, 2] = 1.0
    model = ChanceModel(Chance(prior, value, reward, torch.full((1, nodes), 0.9)))
    golden = {
        1: ([1, 0], [0.45, 0.0]),
        2: ([2, 0], [0.4275, 0.0]),
        3: ([3, 0], [0.285, 0.0]),
        4: ([4, 0], [0.315, 0.0]),
        8: ([8, 0], [0.1575, 0.0]),
        9: ([8, 1], [0.1575, 1.0]),
        12: ([8, 4], [0.1575, 1.0]),
    }
    for count, (visits, values) in golden.items():
        tree = search(model, count, depth=3)
        assert tree.root_visits[0].tolist() == visits
        assert tree.root_values[0].tolist() == pytest.approx(values, abs=1e-6)
    assert int(search(model, 30, depth=3).best()) == 1


def test_a_batch_is_exactly_its_sessions_one_by_one() -> None:
    world = chance(1, 5)
    together = search(ChanceModel(world), 30)
    for row in range(5):
        alone = search(ChanceModel(Chance(*(part[row : row + 1] for part in world))), 30)
        assert torch.equal(alone.root_visits[0], together.root_visits[row])
        assert torch.equal(alone.root_values[0], together.root_values[row])
        assert torch.equal(alone.path().nodes[0], together.path().nodes[row])


def test_visits_add_up_and_the_path_is_one_of_the_tree() -> None:
    tree = search(ChanceModel(chance(2, 4)), 50)
    assert tree.root_visits.sum(-1).tolist() == [50.0] * 4
    path = tree.path()
    states = tree.states(path.nodes)[0]
    for row in range(4):
        at = 0
        for level, (action, node) in enumerate(
            zip(path.actions[row].tolist(), path.nodes[row].tolist(), strict=True)
        ):
            if action < 0:
                assert node < 0 and int(states[row, level]) == 0
                break
            at = 3 * at + 1 + action
            assert int(states[row, level]) == at
        assert path.actions[row, 0] == tree.root_visits[row].argmax()


def test_there_is_a_valid_answer_at_any_time_and_asking_changes_nothing() -> None:
    model = ChanceModel(chance(3, 3))
    asked = MCTS(model, simulations=20, depth=4, chunk=1)
    assert torch.equal(asked.best(), model.evaluate(model.root()).prior.argmax(-1))
    while not asked.done:
        asked.best()
        asked.path()
        asked.step()
    assert torch.equal(asked.root_visits, search(model, 20).root_visits)
    asked.step()
    assert asked.simulations_done == 20


def test_a_slice_ends_soon_whatever_a_simulation_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10**6))
    monkeypatch.setattr("thick.planning.mcts.time.perf_counter", lambda: next(now) * 1e-3)  # 1 ms a look
    tree = MCTS(ChanceModel(chance(3, 1)), simulations=20, depth=4, chunk=10)
    tree.step()
    assert tree.simulations_done == 2
    while not tree.done:
        tree.step()
    monkeypatch.undo()
    assert torch.equal(tree.root_values, search(ChanceModel(chance(3, 1)), 20).root_values)


def test_the_scale_of_the_values_does_not_matter() -> None:
    world = chance(4, 4)
    scaled = world._replace(value=100 * world.value, reward=100 * world.reward)
    assert torch.equal(
        search(ChanceModel(world), 40).root_visits, search(ChanceModel(scaled), 40).root_visits
    )


def test_values_that_hardly_differ_are_not_blown_up() -> None:
    world = chance(4, 1)
    flat = world._replace(value=1e-6 * world.value, reward=1e-6 * world.reward)
    prior_only = world._replace(value=0 * world.value, reward=0 * world.reward)
    assert torch.equal(
        search(ChanceModel(flat), 40).root_visits, search(ChanceModel(prior_only), 40).root_visits
    )


def test_nothing_is_gained_beyond_the_end_of_an_episode() -> None:
    world = chance(6, 1, actions=2)
    world.reward[:], world.value[:], world.prior[:] = 0, 0, 0.5
    world.reward[0, 1], world.discount[0, 1] = (
        0.5,
        0.0,
    )  # left ends the episode, and a fortune would lie beyond
    world.value[0, 3:5], world.reward[0, 3:5] = 50.0, 50.0
    world.reward[0, 2] = 0.6
    tree = search(ChanceModel(world), 30)
    assert int(tree.best()) == 1
    assert float(tree.root_values[0, 0]) == pytest.approx(0.5)


def test_exploration_changes_the_search_by_the_session_alone() -> None:
    world = chance(7, 3)
    noisy = search(ChanceModel(world), 20, exploration=0.9, randomness=randomness(1, 2, 3))
    again = search(ChanceModel(world), 20, exploration=0.9, randomness=randomness(1, 2, 3))
    other = search(ChanceModel(world), 20, exploration=0.9, randomness=randomness(4, 5, 6))
    calm = search(ChanceModel(world), 20)
    assert torch.equal(noisy.root_visits, again.root_visits)
    assert not torch.equal(noisy.root_visits, other.root_visits)
    assert not torch.equal(noisy.root_visits, calm.root_visits)
    with pytest.raises(ValueError, match="needs randomness"):
        MCTS(ChanceModel(world), simulations=2, depth=2, exploration=0.5)


def test_a_temperature_draws_by_visits() -> None:
    tree = search(ChanceModel(Chance(*(part.expand(2000, *part.shape[1:]) for part in chance(8, 1)))), 20)
    drawn = tree.best(temperature=1.0, randomness=randomness(*range(2000)))
    shares = torch.bincount(drawn, minlength=3) / 2000
    assert torch.allclose(shares, tree.root_visits[0] / 20, atol=0.04)


# -- the full tree -----------------------------------------------------------------------------------------------------


def best_return(world: Chance, row: int, node: int, levels: int, floor: float) -> tuple[float, int]:
    actions = world.prior.shape[-1]
    if levels == 0:
        return float(world.value[row, node]), -1
    prior = world.prior[row, node]
    best = (-math.inf, -1)
    for action in range(actions):
        if prior[action] < floor and prior[action] < prior.max():
            continue
        child = actions * node + 1 + action
        value = best_return(world, row, child, levels - 1, floor)[0]
        best = max(best, (float(world.reward[row, child] + world.discount[row, child] * value), action))
    return best


@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_the_full_tree_finds_the_best_sequence(floor: float) -> None:
    world = chance(9, 5)
    tree = Tree(ChanceModel(world), simulations=3 + 9 + 27, depth=8, floor=floor)
    while not tree.done:
        tree.step()
    assert tree.levels == 3 and tree.simulations_done == 39
    for row in range(5):
        value, action = best_return(world, row, 0, 3, floor)
        assert int(tree.best()[row]) == action
        assert float(tree.root_values[row, action]) == pytest.approx(value, abs=1e-5)
        path = tree.path()
        at, states = 0, tree.states(path.nodes)[0]
        for level, step in enumerate(path.actions[row].tolist()):
            at = 3 * at + 1 + step
            assert int(states[row, level]) == at


def test_the_full_tree_has_an_answer_after_each_level() -> None:
    model = ChanceModel(chance(10, 2))
    tree = Tree(model, simulations=39, depth=8)
    assert torch.equal(tree.best(), model.evaluate(model.root()).prior.argmax(-1))
    assert tree.path().nodes.tolist() == [[-1], [-1]]
    answers: list[Tensor] = []
    while not tree.done:
        tree.step()
        answers.append(tree.best())
        assert bool(torch.isfinite(tree.root_values).all())
    assert len(answers) == 3


def test_the_depth_of_a_full_tree_keeps_to_its_budget() -> None:
    assert [levels_within(budget, 5, 8) for budget in (1, 29, 30, 155, 10**6)] == [1, 1, 2, 3, 8]
    assert levels_within(100, 1, 8) == 8
