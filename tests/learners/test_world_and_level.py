"""The losses of world model and level: nothing is dropped, each part learns its own, a batch can be learned."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from tests.models.sizes import ACTIONS, CONTINUOUS, DISCRETE, GRID, MIXED, SPACES, VECTOR, batch, model, tiny
from thick.configuration import merge
from thick.learners.level import segment_batch
from thick.learners.parts import Group, Losses, Part, Shared, Stateless
from thick.learners.recipes import RECIPES
from thick.learners.schedules import Schedule
from thick.learners.world import drawn_steps, openings
from thick.models.batch import Batch
from thick.models.config import LossConfig
from thick.models.dynamics.crssm import CRSSM
from thick.models.networks import AgentNetworks
from thick.training.config import TrainConfig, load_config
from thick.training.learner import Learner, weighted


def parts(world: AgentNetworks) -> list[Part]:
    """The parts that train the world model and its levels."""
    learner = "thick-planet" if world.hierarchy else "planet"
    return RECIPES[learner](world, TrainConfig(model=world.config)).parts


def shared(world: AgentNetworks, data: Batch) -> Shared:
    return Shared(data, world.world.observe(data))


def total(part: Part, data: Shared) -> Tensor:
    return weighted(part, part.scales(0), data)[0]


def fit(world: AgentNetworks, data: Batch, updates: int) -> list[float]:
    """Overfit one batch; the totals of the world model at every update."""
    torch.manual_seed(1)
    trained = parts(world)
    optimizers = [
        torch.optim.Adam([weight for group in part.groups().values() for weight in group.parameters], 3e-3)
        for part in trained
    ]
    totals = []
    for _ in range(updates):
        now = shared(world, data)
        for part, optimizer in zip(trained, optimizers, strict=True):
            loss = total(part, now)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if part.name == "world":
                totals.append(loss.item())
    return totals


@pytest.mark.parametrize(
    "kind", ["rssm", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("crssm", "thick"))]
)
@pytest.mark.parametrize(
    "action",
    [pytest.param(ACTIONS["discrete"], marks=pytest.mark.slow), ACTIONS["continuous"]],
    ids=["discrete", "continuous"],
)
def test_one_batch_can_be_learned(kind: str, action: object) -> None:
    world = model(GRID, action, kind=kind)
    totals = fit(world, batch(GRID, action), 50)
    assert sum(totals[-5:]) / 5 < 0.7 * totals[0]


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_the_high_level_learns_the_segments_of_one_batch(action: object) -> None:
    world = model(VECTOR, action)
    world.eval()  # no gate noise: the same segments every time
    data = batch(VECTOR, action)
    with torch.no_grad():
        seen_once = shared(world, data)
    _, level = parts(world)
    assert segment_batch(world.world, world.config.levels[0], data, seen_once.posterior).mask.sum() > 4
    optimizer = torch.optim.Adam(world.hierarchy[0].parameters(), 3e-3)
    seen: dict[str, list[float]] = {}
    torch.manual_seed(0)
    for _ in range(80):
        loss, (terms, _) = weighted(level, level.scales(0), seen_once)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, term in terms.items():
            seen.setdefault(name, []).append(term.item())
    for name in ("state", "action", "returns"):
        assert sum(seen[name][-5:]) / 5 < seen[name][0], name


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_every_kind_of_observation_gives_finite_losses_and_gradients_everywhere(space: object) -> None:
    world = model(space)
    data = batch(space, size=2, time=6)
    now = shared(world, data)
    for part in parts(world):
        loss, (terms, metrics) = weighted(part, part.scales(0), now)
        for name, value in {**terms, **metrics}.items():
            assert value.shape == () and bool(value.isfinite()), name
        loss.backward()
    unused = [name for name, weight in world.named_parameters() if weight.grad is None]
    assert not unused


@pytest.mark.parametrize("kind", ["thick", "crssm", "rssm"])
def test_the_total_is_every_term_times_its_scale(kind: str) -> None:
    names = list(asdict(LossConfig()))
    scales = LossConfig(**{name: 2.0 + index for index, name in enumerate(names)})
    world = model(kind=kind, loss=scales).eval()
    part = parts(world)[0]
    loss, (terms, _) = weighted(part, part.scales(0), shared(world, batch()))
    weights = asdict(scales)
    torch.testing.assert_close(loss, torch.stack([weights[name] * terms[name] for name in terms]).sum())
    coarse = {name for name in names if name.startswith("coarse_")} | {"sparsity"}
    assert terms.keys() == set(names) - (coarse if kind == "rssm" else set())


def test_a_term_without_a_scale_and_a_scale_without_a_term_are_refused() -> None:
    world = model()
    part, data = parts(world)[0], shared(world, batch())
    for scales in ({**part.scales(0), "surprise": 1.0}, {"decoder": 1.0}):
        with pytest.raises(ValueError, match="world: the losses are"):
            weighted(part, scales, data)


def test_sparsity_counts_once() -> None:
    world = model().eval()
    part, data = parts(world)[0], shared(world, batch())
    totals = []
    for weight in (0.0, 1.0, 5.0):
        loss, (terms, _) = weighted(part, {**part.scales(0), "sparsity": weight}, data)
        totals.append(loss.item())
    gates = terms["sparsity"].item()
    assert 0 < gates <= 1
    assert totals[1] - totals[0] == pytest.approx(gates, rel=1e-3)
    assert totals[2] - totals[0] == pytest.approx(5 * gates, rel=1e-3)


def test_schedules_weigh_the_gates_and_both_kls() -> None:
    world = model(loss=LossConfig(sparsity=3.0, kl=2.0, coarse_kl=5.0))
    half = Schedule(start=0.5, final=1.0, ramp_from=10, ramp_to=20)
    config = TrainConfig(learner="thick-planet", model=world.config, sparsity=half, kl=half)
    part = RECIPES["thick-planet"](world, config).parts[0]
    early, late = part.scales(0), part.scales(20)
    assert (early["sparsity"], early["kl"], early["coarse_kl"]) == (1.5, 1.0, 2.5)
    assert (late["sparsity"], late["kl"], late["coarse_kl"]) == (3.0, 2.0, 5.0)
    assert early["decoder"] == late["decoder"] == 1.0


def test_the_high_level_teaches_nothing_to_the_low_level() -> None:
    world = model()
    _, level = parts(world)
    loss = total(level, shared(world, batch()))
    gradients = torch.autograd.grad(loss, list(world.world.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients)


@pytest.mark.parametrize("learner", list(RECIPES))
def test_every_weight_belongs_to_exactly_one_group(learner: str) -> None:
    config = load_config(f"learners/{learner}")
    sizes = tiny(kind="thick" if config.model.levels else "rssm")
    world = AgentNetworks(replace(sizes, behaviour=config.model.behaviour), GRID, DISCRETE)
    trained = RECIPES[learner](world, replace(config, model=world.config)).parts
    ids = [id(w) for part in trained for group in part.groups().values() for w in group.parameters]
    assert len(ids) == len(set(ids))
    assert {id(weight) for weight in world.parameters()} <= set(ids)


def test_the_second_episode_of_a_row_changes_nothing_in_the_first() -> None:
    world = model(VECTOR, CONTINUOUS, posterior="observation").eval()

    def targets(data: Batch) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        with torch.no_grad():
            posterior = shared(world, data).posterior
            segments = segment_batch(world.world, world.config.levels[0], data, posterior)
            return tuple(part[2:, :5] for part in segments[6:])

    data = batch(VECTOR, CONTINUOUS)  # in rows 2 and 3 another episode begins at step 6
    other = {name: array.clone() for name, array in data.observation.items()}
    for array in other.values():
        array[:, 6:] += 1
    changed = data._replace(observation=other, reward=data.reward + (torch.arange(12) >= 6))
    for one, two in zip(targets(data), targets(changed), strict=True):
        torch.testing.assert_close(one, two)


def test_a_terminal_step_is_taught_to_end_and_every_other_to_go_on_at_the_discount() -> None:
    world = model(VECTOR, discount=0.9)
    assert world.world.heads.discount is not None
    torch.nn.init.zeros_(world.world.heads.discount.out.weight)
    torch.nn.init.constant_(world.world.heads.discount.out.bias, 2.0)
    data = batch(VECTOR)  # 2 of 48 steps are terminal
    terms = parts(world)[0].losses(shared(world, data)).terms
    target = 0.9 * 46 / 48
    going_on = 1 / (1 + math.exp(-2.0))
    expected = -(target * math.log(going_on) + (1 - target) * math.log(1 - going_on))
    assert terms["discount"].item() == pytest.approx(expected, rel=1e-4)


def test_rewards_are_squashed_only_where_asked() -> None:
    reward = torch.tensor([0.0, 1.0, 10.0])
    assert torch.equal(model(clip_rewards="tanh").world.target_reward(reward), reward.tanh())
    assert torch.equal(model(clip_rewards="none").world.target_reward(reward), reward)


def test_a_model_without_a_discount_head_has_no_such_loss() -> None:
    world = model(discount_head=False)
    terms = parts(world)[0].losses(shared(world, batch())).terms
    assert not any("discount" in name for name in terms)


@pytest.mark.parametrize("learner", list(RECIPES))
def test_a_batch_is_encoded_and_filtered_once_for_all_parts(
    learner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(f"learners/{learner}")
    sizes = tiny(kind="thick" if config.model.levels else "rssm")
    learning = Learner(
        replace(config, model=replace(sizes, behaviour=config.model.behaviour)), MIXED, DISCRETE
    )
    calls = []
    world = learning.model.world
    world.encoder.register_forward_hook(lambda *_: calls.append("encode"))
    observe = world.dynamics.observe
    monkeypatch.setattr(world.dynamics, "observe", lambda *a, **k: calls.append("filter") or observe(*a, **k))
    learning.update(batch(MIXED, size=2, time=4))
    assert calls == ["encode", "filter"]


def test_openings_cost_only_beyond_their_budget() -> None:
    gates = torch.zeros(2, 16, 4, requires_grad=True)
    is_first = torch.zeros(2, 16)
    is_first[:, 0] = 1
    with torch.no_grad():
        gates[:, 0] = 1  # written from nothing: not counted
        gates[0, 3] = 1
        gates[1, [2, 5, 9]] = 1
    # One of 16 steps is free: the first row has used its budget, the second is two openings beyond.
    cost = openings(gates, is_first, free=1 / 16)
    assert cost.item() == pytest.approx((0 + 2) / 2 / 16)
    (gradient,) = torch.autograd.grad(cost, gates)
    assert not gradient[0].any() and not gradient[1, 0].any() and (gradient[1, 1:] > 0).all()
    assert openings(gates, is_first, free=0).item() == pytest.approx(gates.mean().item())


def test_free_nats_ask_nothing_of_a_small_kl_to_the_fine_prior_and_something_of_the_coarse_one() -> None:
    world = model(free_nats=1000.0)
    part = parts(world)[0]
    terms = part.losses(shared(world, batch())).terms
    assert terms["kl"].item() == 1000.0
    weights = list(world.world.parameters())
    for name in ("kl", "coarse_kl"):
        found = torch.autograd.grad(terms[name], weights, allow_unused=True, retain_graph=True)
        assert any(gradient is not None and bool(gradient.any()) for gradient in found) == (name != "kl")
    torch.manual_seed(0)
    plain = model(free_nats=0.0)
    torch.manual_seed(0)
    small = model(free_nats=1e-6)
    for one in (plain, small):
        one.eval()
    losses = []
    for one in (plain, small):
        torch.manual_seed(3)
        losses.append(parts(one)[0].losses(shared(one, batch())).terms["kl"])
    torch.testing.assert_close(*losses)


def test_openings_too_small_to_count_end_no_segment() -> None:
    masks = []
    for threshold in (0.0, 1e9):
        world = model(VECTOR, kind="thick", change_threshold=threshold)
        data = batch(VECTOR)
        posterior = world.world.observe(data).posterior
        assert (posterior.gates > 0).any()
        config = replace(world.config.levels[0], segment_ends=("gates",))
        masks.append(segment_batch(world.world, config, data, posterior).mask.sum().item())
    assert masks[0] > 0 and masks[1] == 0


def reached(world: AgentNetworks, term: str, data: Batch, *weights: Tensor) -> list[bool]:
    """Which weights a term of the world model's losses has a gradient for."""
    torch.manual_seed(0)
    loss = parts(world)[0].losses(shared(world, data)).terms[term]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return [gradient is not None and bool(gradient.any()) for gradient in gradients]


def test_a_gate_that_opens_is_taught_what_opening_costs() -> None:
    world = model(VECTOR)
    assert isinstance(world.world.dynamics, CRSSM)
    assert reached(world, "sparsity", batch(VECTOR), world.world.dynamics.gatel0rd.gate.weight) == [True]


def test_both_kls_teach_what_their_priors_are_made_of() -> None:
    """With a posterior that reads the observation alone, and all of the KL on the prior's side, nothing else does."""
    data = batch(VECTOR)
    world = model(VECTOR, posterior="observation", kl_balance=1.0)
    dynamics = world.world.dynamics
    assert isinstance(dynamics, CRSSM)
    # h, which the fine prior reads, comes from the GRU; what z was before from the posterior.
    assert reached(world, "kl", data, dynamics.gru.weight, dynamics.obs_logit.weight) == [True, True]
    assert reached(world, "coarse_kl", data, dynamics.gru.weight) == [False]
    assert reached(world, "coarse_kl", data, dynamics.gatel0rd.candidate.weight) == [True]
    with torch.no_grad():  # shut for good, so that the context tells nothing of z
        dynamics.gatel0rd.gate.weight.zero_()
        dynamics.gatel0rd.gate.bias.fill_(-9.0)
    found = reached(world, "coarse_kl", data, dynamics.obs_logit.weight, dynamics.gatel0rd.candidate.weight)
    assert found == [True, False]


def test_a_terminal_step_ends_a_segment_where_ends_do() -> None:
    """Gates stay shut: only the end of an episode is left to end a segment."""
    data = batch(VECTOR)
    is_first = torch.zeros_like(data.is_first)
    is_first[:, 0] = 1
    is_terminal = torch.zeros_like(data.is_terminal)
    is_terminal[:, 4] = 1
    data = data._replace(is_first=is_first, is_terminal=is_terminal)
    world = model(VECTOR).eval()
    assert isinstance(world.world.dynamics, CRSSM)
    with torch.no_grad():
        world.world.dynamics.gatel0rd.gate.weight.zero_()
        world.world.dynamics.gatel0rd.gate.bias.fill_(-9.0)
    seen = shared(world, data).posterior
    for ends, until in (("gates",), 0), (("gates", "ends"), 4):
        level = replace(world.config.levels[0], segment_ends=ends)
        mask = segment_batch(world.world, level, data, seen).mask
        assert mask[:, :until].bool().all() and not mask[:, until:].any(), ends


def test_weights_decay_by_their_share_of_every_update() -> None:
    config = load_config("learners/planet", "sizes/small")
    config = merge(
        config, {"optimizer": {"weight_decay": 0.25, "lr": 0.0}, "precision": "fp32", "threads": 1}
    )
    learner = Learner(config, VECTOR, DISCRETE)
    before = {name: weight.detach().clone() for name, weight in learner.model.named_parameters()}
    learner.update(batch(VECTOR))
    for name, weight in learner.model.named_parameters():
        torch.testing.assert_close(weight.detach(), 0.75 * before[name], msg=name)


class Bowl(Stateless):
    """A part whose loss is least where its weights are zero."""

    name = "bowl"

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.tensor([3.0, -2.0]))

    def groups(self) -> dict[str, Group]:
        return {"bowl": Group([self.weight], 0.5)}

    def scales(self, update: int) -> dict[str, float]:
        return {"square": 0.5}

    def losses(self, shared: Shared) -> Losses:
        return Losses({"square": self.weight.square().sum()}, {})


def test_an_update_goes_down_the_loss() -> None:
    config = merge(
        load_config("learners/planet", "sizes/small"), {"optimizer": {"weight_decay": 0.0, "warmup": 0}}
    )
    learner, bowl = Learner(config, VECTOR, DISCRETE), Bowl()
    learner.parts = [bowl]
    learner._optimizers = {"bowl": {name: learner._optimizer(group) for name, group in bowl.groups().items()}}
    assert learner.update(batch(VECTOR))["bowl/loss"] == 6.5
    torch.testing.assert_close(bowl.weight.detach(), torch.tensor([2.5, -1.5]))  # Adam's first step


def test_a_share_of_the_coarse_path_is_decoded_as_all_of_it_is_on_average() -> None:
    """The same loss in expectation, of features and observations of the same steps, and nothing else changes."""
    world = model(GRID, DISCRETE)
    world.eval()
    data = batch(GRID, DISCRETE)
    now = shared(world, data)
    whole = parts(world)[0].losses(now).terms
    part = parts(model(GRID, DISCRETE, coarse_decoded=0.25))[0]
    part.world.load_state_dict(world.world.state_dict())
    part.world.eval()
    torch.manual_seed(0)
    drawn = [part.losses(now).terms for _ in range(60)]
    values = torch.stack([terms["coarse_decoder"].detach() for terms in drawn])
    assert values.std() > 0
    assert abs(values.mean() - whole["coarse_decoder"]) < 4 * values.std() / 60**0.5
    for name in whole.keys() - {"coarse_decoder"}:
        torch.testing.assert_close(drawn[0][name], whole[name])


@pytest.mark.parametrize(("share", "count"), [(1.0, 12), (0.5, 6), (0.01, 1)])
def test_steps_are_drawn_without_repetition_and_stay_together(share: float, count: int) -> None:
    feature = torch.arange(12.0).reshape(3, 4, 1)
    observation = {"a": feature.clone() + 100, "b": feature[..., None].repeat(1, 1, 2, 3)}
    torch.manual_seed(0)
    seen, drawn = drawn_steps(feature, observation, share)
    numbers = seen.flatten()
    assert len(numbers) == count == len(numbers.unique())
    assert torch.equal(drawn["a"].flatten(), numbers + 100)
    assert drawn["b"].shape[-2:] == (2, 3)
    assert torch.equal(drawn["b"][..., 0, 0].flatten(), numbers)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_a_share_that_decodes_nothing_or_too_much_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="coarse_decoded"):
        merge(load_config("learners/thick-planet"), {"model": {"coarse_decoded": share}})
