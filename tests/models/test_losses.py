"""The losses of a whole world model: nothing is dropped, each part learns its own, a batch can be learned."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from tests.models.sizes import ACTIONS, CONTINUOUS, DISCRETE, GRID, MIXED, SPACES, VECTOR, batch, model
from thick.models.batch import Batch
from thick.models.config import LossConfig
from thick.models.world_model import WorldModel


def fit(world: WorldModel, data: Batch, updates: int) -> tuple[list[float], list[float]]:
    """Overfit one batch; the totals of the low and the high level at every update."""
    torch.manual_seed(1)
    low = torch.optim.Adam(world.low_level_parameters(), 3e-3)
    high = None if world.high is None else torch.optim.Adam(world.high.parameters(), 3e-3)
    totals: tuple[list[float], list[float]] = ([], [])
    for _ in range(updates):
        loss, trajectory, _, _ = world.losses(data)
        low.zero_grad()
        loss.backward()
        low.step()
        totals[0].append(loss.item())
        if high is not None:
            loss, _, _ = world.high_losses(data, trajectory)
            high.zero_grad()
            loss.backward()
            high.step()
            totals[1].append(loss.item())
    return totals


@pytest.mark.parametrize("kind", ["thick", "crssm", "rssm"])
@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_one_batch_can_be_learned(kind: str, action: object) -> None:
    world = model(GRID, action, kind=kind)
    low, _ = fit(world, batch(GRID, action), 50)
    assert sum(low[-5:]) / 5 < 0.7 * low[0]


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_the_high_level_learns_the_segments_of_one_batch(action: object) -> None:
    world = model(VECTOR, action)
    world.eval()  # no gate noise: the same segments every time
    data = batch(VECTOR, action)
    with torch.no_grad():
        _, trajectory, _, _ = world.losses(data)
    assert world.segment_batch(data, trajectory).mask.sum() > 4
    assert world.high is not None
    optimizer = torch.optim.Adam(world.high.parameters(), 3e-3)
    seen: dict[str, list[float]] = {}
    torch.manual_seed(0)
    for _ in range(80):
        loss, terms, _ = world.high_losses(data, trajectory)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, term in terms.items():
            seen.setdefault(name, []).append(term.item())
    for name in ("state", "action", "return"):
        assert sum(seen[name][-5:]) / 5 < seen[name][0], name


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_every_kind_of_observation_gives_finite_losses_and_gradients_everywhere(space: object) -> None:
    world = model(space)
    data = batch(space, size=2, time=6)
    loss, trajectory, terms, metrics = world.losses(data)
    high, high_terms, high_metrics = world.high_losses(data, trajectory)
    for name, value in {**terms, **metrics, **high_terms, **high_metrics}.items():
        assert value.shape == () and bool(value.isfinite()), name
    (loss + high).backward()
    unused = [name for name, weight in world.named_parameters() if weight.grad is None]
    assert not unused


@pytest.mark.parametrize("kind", ["thick", "crssm", "rssm"])
def test_the_total_is_every_term_times_its_scale(kind: str) -> None:
    names = [name for name in asdict(LossConfig())]
    scales = LossConfig(**{name: 2.0 + index for index, name in enumerate(names)})
    world = model(kind=kind, loss=scales).eval()
    torch.manual_seed(0)
    total, _, terms, _ = world.losses(batch())
    weights = asdict(scales)
    torch.testing.assert_close(total, torch.stack([weights[name] * terms[name] for name in terms]).sum())
    coarse = {name for name in names if name.startswith("coarse_")} | {"sparsity"}
    assert terms.keys() == set(names) - (coarse if kind == "rssm" else set())


def test_sparsity_counts_once() -> None:
    world = model().eval()
    totals = []
    for weight in (0.0, 1.0, 5.0):
        torch.manual_seed(0)
        total, _, terms, _ = world.losses(batch(), scales={"sparsity": weight})
        totals.append(total.item())
    gates = terms["sparsity"].item()
    assert 0 < gates <= 1
    assert totals[1] - totals[0] == pytest.approx(gates, rel=1e-3)
    assert totals[2] - totals[0] == pytest.approx(5 * gates, rel=1e-3)


def test_the_high_level_teaches_nothing_to_the_low_level() -> None:
    world = model()
    data = batch()
    _, trajectory, _, _ = world.losses(data)
    loss, _, _ = world.high_losses(data, trajectory)
    gradients = torch.autograd.grad(loss, world.low_level_parameters(), allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_every_weight_belongs_to_exactly_one_level() -> None:
    world = model()
    assert world.high is not None
    low = {id(weight) for weight in world.low_level_parameters()}
    high = {id(weight) for weight in world.high.parameters()}
    assert not low & high
    assert low | high == {id(weight) for weight in world.parameters()}


def test_the_second_episode_of_a_row_changes_nothing_in_the_first() -> None:
    world = model(VECTOR, CONTINUOUS, posterior="observation").eval()

    def targets(data: Batch) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        with torch.no_grad():
            _, trajectory, _, _ = world.losses(data)
            return tuple(part[2:, :5] for part in world.segment_batch(data, trajectory)[6:])

    data = batch(VECTOR, CONTINUOUS)  # in rows 2 and 3 another episode begins at step 6
    other = {name: array.clone() for name, array in data.observation.items()}
    for array in other.values():
        array[:, 6:] += 1
    changed = data._replace(observation=other, reward=data.reward + (torch.arange(12) >= 6))
    for one, two in zip(targets(data), targets(changed), strict=True):
        torch.testing.assert_close(one, two)


def test_a_terminal_step_is_taught_to_end_and_every_other_to_go_on_at_the_discount() -> None:
    world = model(VECTOR, discount=0.9)
    assert world.heads.discount is not None
    torch.nn.init.zeros_(world.heads.discount.out.weight)
    torch.nn.init.constant_(world.heads.discount.out.bias, 2.0)
    data = batch(VECTOR)  # 2 of 48 steps are terminal
    _, _, terms, _ = world.losses(data)
    target = 0.9 * 46 / 48
    going_on = 1 / (1 + math.exp(-2.0))
    expected = -(target * math.log(going_on) + (1 - target) * math.log(1 - going_on))
    assert terms["discount"].item() == pytest.approx(expected, rel=1e-4)


def test_rewards_are_squashed_only_where_asked() -> None:
    reward = torch.tensor([0.0, 1.0, 10.0])
    assert torch.equal(model(clip_rewards="tanh").target_reward(reward), reward.tanh())
    assert torch.equal(model(clip_rewards="none").target_reward(reward), reward)


def test_a_model_without_a_discount_head_has_no_such_loss() -> None:
    world = model(discount_head=False)
    _, _, terms, _ = world.losses(batch())
    assert not any("discount" in name for name in terms)


def test_an_observation_is_encoded_once_for_both_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    world = model(MIXED, DISCRETE)
    data = batch(MIXED, size=2, time=4)
    calls = []
    world.encoder.register_forward_hook(lambda *_: calls.append(1))
    _, trajectory, _, _ = world.losses(data)
    world.high_losses(data, trajectory)
    assert len(calls) == 1
