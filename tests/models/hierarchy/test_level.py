"""The high level: its targets, its predictions, and the jump from change to change."""

from __future__ import annotations

import pytest
import torch

from tests.models.sizes import ACTIONS, CONTINUOUS, DISCRETE, VECTOR, batch, model
from thick.learners.level import segment_batch
from thick.models.batch import Batch
from thick.models.beliefs import State
from thick.models.distributions import one_hot_mode, one_hot_sample
from thick.models.hierarchy.level import SegmentBatch
from thick.models.networks import AgentNetworks

every_action = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())


def states(world: AgentNetworks, *leading: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random z, c and high-level actions."""
    config = world.config
    torch.manual_seed(3)
    stoch = one_hot_mode(torch.randn(*leading, config.stoch, config.classes))
    context = torch.randn(*leading, config.context).tanh()
    return stoch, context, one_hot_mode(torch.randn(*leading, config.levels[0].actions))


def segments_of(world: AgentNetworks, data: Batch, posterior: State) -> SegmentBatch:
    """What the level is trained to predict."""
    fixed = State(*(part.detach() for part in posterior))
    return segment_batch(world.world, world.config.levels[0], data, fixed)


@every_action
@torch.no_grad()
def test_a_jump_is_the_predicted_change_followed_by_one_step_of_the_coarse_path(action: object) -> None:
    world = model(VECTOR, action)
    stoch, context, high_action = states(world, 3, 2)
    jump = world.hierarchy[0].jump(world.world.dynamics, stoch, context, high_action)
    prediction = world.hierarchy[0].predict(stoch, context, high_action)
    assert torch.equal(jump.stoch_before, one_hot_mode(prediction.stoch_logits))
    start = world.world.dynamics.initial(3, 2)._replace(stoch=jump.stoch_before, context=context)
    step = world.world.dynamics.imagine_step(start, jump.action, sample=False)
    torch.testing.assert_close(jump.context, step.context)
    assert torch.equal(jump.gates, step.gates)
    expected = world.world.dynamics.coarse_prior(jump.stoch_before, jump.action, jump.context)
    torch.testing.assert_close(jump.logits, expected)
    assert torch.equal(jump.stoch, one_hot_mode(jump.logits))
    assert (jump.elapsed >= 1).all()
    torch.testing.assert_close(jump.elapsed, prediction.time + 1)
    if action is DISCRETE:
        assert torch.equal(jump.action, one_hot_mode(prediction.action))
    else:
        assert jump.action.abs().max() <= 1


@every_action
@torch.no_grad()
def test_a_sampled_jump_samples_the_action_that_leads_into_the_change(action: object) -> None:
    world = model(VECTOR, action)
    stoch, context, high_action = (part.expand(500, *part.shape[1:]) for part in states(world, 1))
    prediction = world.hierarchy[0].predict(stoch[:1], context[:1], high_action[:1])
    drawn = world.hierarchy[0].jump(world.world.dynamics, stoch, context, high_action, sample=True).action
    assert drawn.unique(dim=0).shape[0] > 3
    if action is DISCRETE:
        assert set(drawn.unique().tolist()) == {0.0, 1.0}
        torch.testing.assert_close(drawn.mean(0), prediction.action[0].softmax(-1), atol=0.08, rtol=0)
    else:
        assert drawn.abs().max() < 1


@torch.no_grad()
def test_an_elapsed_time_is_bounded() -> None:
    world = model(VECTOR)
    torch.nn.init.constant_(world.hierarchy[0].time_head.out.bias, 500.0)
    jump = world.hierarchy[0].jump(world.world.dynamics, *states(world, 4), max_time=20.0)
    assert jump.elapsed.tolist() == [21.0] * 4


@every_action
@torch.no_grad()
def test_predictions_depend_on_the_high_level_action(action: object) -> None:
    world = model(VECTOR, action)
    stoch, context, _ = states(world, 1)
    count = world.config.levels[0].actions
    every = world.hierarchy[0].predict(
        stoch.expand(count, -1, -1), context.expand(count, -1), torch.eye(count)
    )
    for part in every:
        assert part is None or not torch.allclose(part[0], part[1])


@every_action
@torch.no_grad()
def test_spreads_are_positive_and_times_not_negative(action: object) -> None:
    world = model(VECTOR, action)
    for weight in world.hierarchy[0].parameters():
        weight.mul_(10)
    prediction = world.hierarchy[0].predict(*states(world, 200))
    assert prediction.time.min() >= 0
    assert prediction.time_std.min() >= 0.1 - 1e-6
    if prediction.action_std is not None:
        assert prediction.action_std.min() >= 0.1
        assert prediction.action_std.max() <= 2.1
        assert prediction.action.abs().max() <= 1


def test_what_was_predicted_wrong_reaches_the_posterior_through_the_sampled_action() -> None:
    world = model(VECTOR)
    data = batch(VECTOR)
    trajectory = world.world.observe(data)
    segments = segments_of(world, data, trajectory.posterior)
    assert segments.mask.any()
    terms, _ = world.hierarchy[0].losses(segments, balance=0.8)
    weight = world.hierarchy[0].posterior_logit.weight
    for name in ("state", "action", "returns"):
        (gradient,) = torch.autograd.grad(terms[name], weight, retain_graph=True)
        assert gradient.any(), name


def test_the_prior_learns_from_the_posterior_alone() -> None:
    world = model(VECTOR)
    data = batch(VECTOR)
    trajectory = world.world.observe(data)
    terms, _ = world.hierarchy[0].losses(segments_of(world, data, trajectory.posterior), balance=0.8)
    weight = world.hierarchy[0].prior_logit.weight
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, weight, retain_graph=True, allow_unused=True)
        assert (gradient is not None and bool(gradient.any())) == (name == "high_action"), name


@every_action
def test_entries_without_a_change_weigh_nothing(action: object) -> None:
    world = model(VECTOR, action)
    data = batch(VECTOR, action)
    trajectory = world.world.observe(data)
    segments = segments_of(world, data, trajectory.posterior)
    outside = segments.mask == 0
    assert outside.any()

    def losses(part: object) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return world.hierarchy[0].losses(part, balance=0.8)[0]  # type: ignore[arg-type]

    spoilt = segments._replace(
        elapsed=torch.where(outside, 50.0, segments.elapsed),
        returns=torch.where(outside, -9.0, segments.returns),
        target_logits=torch.where(outside[..., None, None], 3.0, segments.target_logits),
    )
    for one, two in zip(losses(segments).values(), losses(spoilt).values(), strict=True):
        torch.testing.assert_close(one, two)
    none = losses(segments._replace(mask=torch.zeros_like(segments.mask)))
    assert all(term == 0 for term in none.values())


def test_targets_are_taken_just_before_and_at_the_change() -> None:
    world = model(VECTOR, CONTINUOUS).eval()
    data = batch(VECTOR, CONTINUOUS)
    trajectory = world.world.observe(data)
    # Gates by hand: one opens at step 4 of the first row, and nowhere else.
    posterior = trajectory.posterior
    gates = torch.zeros_like(posterior.gates)
    gates[0, 4, 2] = 1
    segments = segments_of(world, data, posterior._replace(gates=gates))
    assert segments.mask.sum() == 4
    for now in range(4):
        assert segments.mask[0, now] == 1
        assert segments.elapsed[0, now] == 3 - now
        assert torch.equal(segments.target_stoch[0, now], posterior.stoch[0, 3])
        assert torch.equal(segments.target_logits[0, now], posterior.logits[0, 3])
        assert torch.equal(segments.next_context[0, now], posterior.context[0, 4])
        assert torch.equal(segments.action[0, now], data.action[0, 4])
        discounted = [0.99 ** (k - now) * data.reward[0, k].tanh().item() for k in range(now, 4)]
        assert segments.returns[0, now].item() == pytest.approx(sum(discounted), rel=1e-4, abs=1e-5)


def test_the_sampled_high_level_action_is_a_one_hot() -> None:
    sample = one_hot_sample(torch.randn(100, 3))
    assert set(sample.unique().tolist()) == {0.0, 1.0}
