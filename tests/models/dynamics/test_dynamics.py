"""RSSM and C-RSSM: episodes do not leak into each other, and imagining continues what observing began."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from thick.models.beliefs import State, Trajectory
from thick.models.dynamics.crssm import CRSSM
from thick.models.dynamics.rssm import RSSM

SIZES = {"stoch": 4, "classes": 5, "deter": 12, "hidden": 16, "action": 3, "embed": 9}
BATCH, TIME = 3, 8


def build(kind: str, posterior: str = "full") -> RSSM:
    torch.manual_seed(0)
    if kind == "rssm":
        return RSSM(**SIZES, posterior=posterior)
    return CRSSM(context=6, **SIZES, posterior=posterior)


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embed = torch.randn(BATCH, TIME, SIZES["embed"], generator=generator)
    action = torch.randn(BATCH, TIME, SIZES["action"], generator=generator)
    is_first = torch.zeros(BATCH, TIME)
    is_first[:, 0] = 1
    return embed, action, is_first


def close(one: State, other: State) -> None:
    for name, found, expected in zip(State._fields, one, other, strict=True):
        torch.testing.assert_close(found, expected, msg=lambda text, name=name: f"{name}: {text}")


def coarse(trajectory: Trajectory) -> Tensor:
    assert trajectory.coarse_logits is not None
    return trajectory.coarse_logits


def part(state: State, index: tuple[slice | int, ...]) -> State:
    return State(*(leaf[index] for leaf in state))


every_kind = pytest.mark.parametrize("kind", ["rssm", "crssm"])
every_posterior = pytest.mark.parametrize("posterior", ["full", "observation"])


@every_kind
@every_posterior
@torch.no_grad()
def test_two_episodes_in_a_row_are_filtered_as_if_each_were_alone(kind: str, posterior: str) -> None:
    dynamics = build(kind, posterior)
    embed, action, is_first = inputs()
    is_first[:, 3] = 1
    together = dynamics.observe(embed, action, is_first, sample=False)
    for steps in (slice(0, 3), slice(3, None)):
        alone = dynamics.observe(embed[:, steps], action[:, steps], is_first[:, steps], sample=False)
        close(part(together.posterior, (slice(None), steps)), alone.posterior)
        torch.testing.assert_close(together.prior_logits[:, steps], alone.prior_logits)
        if isinstance(dynamics, CRSSM):
            torch.testing.assert_close(coarse(together)[:, steps], coarse(alone))
    # What led to a first observation is nobody's action.
    assert not together.previous_action[:, 3].any()
    assert not together.previous_stoch[:, 3].any()


def test_what_the_first_step_of_an_episode_changes_is_counted_from_nothing_and_not_from_another_episode() -> (
    None
):
    dynamics = CRSSM(context=2, change_threshold=0.3, **SIZES)
    context = torch.tensor([[[0.5, 0.5], [0.5, 0.9], [0.5, 0.9]]])
    states = dynamics.initial(1, 3)._replace(context=context, gates=torch.ones(1, 3, 2))
    within = dynamics.changes(states, torch.tensor([[1, 0, 0]]))
    assert within.tolist() == [[[1, 1], [0, 1], [0, 0]]]
    across = dynamics.changes(states, torch.tensor([[1, 0, 1]]))
    assert across.tolist() == [[[1, 1], [0, 1], [1, 1]]]


@every_kind
@every_posterior
@torch.no_grad()
def test_an_episode_may_be_filtered_in_pieces(kind: str, posterior: str) -> None:
    dynamics = build(kind, posterior)
    embed, action, is_first = inputs()
    whole = dynamics.observe(embed, action, is_first, sample=False)
    first = dynamics.observe(embed[:, :5], action[:, :5], is_first[:, :5], sample=False)
    rest = dynamics.observe(
        embed[:, 5:],
        action[:, 5:],
        is_first[:, 5:],
        part(first.posterior, (slice(None), -1)),
        sample=False,
    )
    close(part(whole.posterior, (slice(None), slice(5, None))), rest.posterior)
    torch.testing.assert_close(whole.prior_logits[:, 5:], rest.prior_logits)


@every_kind
@every_posterior
@torch.no_grad()
def test_the_prior_of_a_step_is_what_imagining_it_would_have_given(kind: str, posterior: str) -> None:
    dynamics = build(kind, posterior)
    embed, action, is_first = inputs()
    seen = dynamics.observe(embed, action, is_first, sample=False)
    dreamt = dynamics.imagine_step(
        part(seen.posterior, (slice(None), slice(0, -1))), action[:, 1:], sample=False
    )
    torch.testing.assert_close(dreamt.logits, seen.prior_logits[:, 1:])
    torch.testing.assert_close(dreamt.deter, seen.posterior.deter[:, 1:])
    torch.testing.assert_close(dreamt.context, seen.posterior.context[:, 1:])
    torch.testing.assert_close(dreamt.gates, seen.posterior.gates[:, 1:])
    if isinstance(dynamics, CRSSM):
        before = part(seen.posterior, (slice(None), slice(0, -1)))
        _, _, logits = dynamics.context_step(before, action[:, 1:])
        torch.testing.assert_close(logits, coarse(seen)[:, 1:])


@every_kind
@torch.no_grad()
def test_a_rollout_is_one_imagined_step_after_the_other(kind: str) -> None:
    dynamics = build(kind)
    _, action, _ = inputs()
    state = dynamics.initial(BATCH)
    rollout = dynamics.imagine(state, action, sample=False)
    for step in range(TIME):
        state = dynamics.imagine_step(state, action[:, step], sample=False)
        close(part(rollout, (slice(None), step)), state)


@every_kind
@every_posterior
@torch.no_grad()
def test_batch_mates_do_not_matter(kind: str, posterior: str) -> None:
    dynamics = build(kind, posterior)
    embed, action, is_first = inputs()
    together = dynamics.observe(embed, action, is_first, sample=False).posterior
    alone = dynamics.observe(embed[1:2], action[1:2], is_first[1:2], sample=False).posterior
    close(part(together, (slice(1, 2),)), alone)


@every_kind
@every_posterior
@torch.no_grad()
def test_the_future_does_not_reach_the_past(kind: str, posterior: str) -> None:
    dynamics = build(kind, posterior)
    embed, action, is_first = inputs()
    before = dynamics.observe(embed, action, is_first, sample=False)
    embed[:, 5:] += 1
    action[:, 5:] -= 1
    after = dynamics.observe(embed, action, is_first, sample=False)
    close(
        part(before.posterior, (slice(None), slice(0, 5))), part(after.posterior, (slice(None), slice(0, 5)))
    )
    assert not torch.equal(before.posterior.deter[:, 6:], after.posterior.deter[:, 6:])


@every_kind
@every_posterior
def test_states_are_one_hot_and_carry_gradients_to_every_weight(kind: str, posterior: str) -> None:
    dynamics = build(kind, posterior)
    embed, action, is_first = inputs()
    embed.requires_grad_()
    seen = dynamics.observe(embed, action, is_first)
    stoch = seen.posterior.stoch
    assert set(stoch.unique().tolist()) == {0.0, 1.0}
    assert bool((stoch.sum(-1) == 1).all())
    outputs = [dynamics.features(seen.posterior).square().sum(), seen.prior_logits.square().sum()]
    if seen.coarse_logits is not None:
        outputs.append(seen.coarse_logits.square().sum())
    sum(outputs).backward()
    unused = [
        name for name, weight in dynamics.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert not unused
    # z is sampled, yet what led to it learns: the first embedding matters to the end of the sequence.
    assert embed.grad is not None and embed.grad[:, 0].any()


@torch.no_grad()
def test_the_coarse_path_never_sees_h() -> None:
    dynamics = build("crssm")
    assert isinstance(dynamics, CRSSM)
    _, action, _ = inputs()
    seen = dynamics.imagine(dynamics.initial(BATCH), action)
    state = part(seen, (slice(None), -1))
    other = state._replace(deter=torch.randn_like(state.deter))
    for one, two in zip(
        dynamics.context_step(state, action[:, 0]), dynamics.context_step(other, action[:, 0]), strict=True
    ):
        assert torch.equal(one, two)
    # … and it is the context of a full step.
    context, gates, coarse = dynamics.context_step(state, action[:, 0])
    full = dynamics.imagine_step(state, action[:, 0])
    torch.testing.assert_close(context, full.context)
    assert torch.equal(gates, full.gates)
    torch.testing.assert_close(coarse, dynamics.coarse_prior(state.stoch, action[:, 0], full.context))


@torch.no_grad()
def test_gate_noise_is_for_training_and_moves_contexts() -> None:
    dynamics = build("crssm")
    embed, action, is_first = inputs()
    quiet = dynamics.observe(embed, action, is_first, sample=False)
    again = dynamics.observe(embed, action, is_first, sample=False)
    noisy = dynamics.observe(embed, action, is_first, sample=False, gate_noise=0.5)
    assert torch.equal(quiet.posterior.context, again.posterior.context)
    assert not torch.equal(quiet.posterior.context, noisy.posterior.context)


@torch.no_grad()
def test_a_posterior_from_the_observation_alone_sees_nothing_else() -> None:
    dynamics = build("crssm", "observation")
    embed, action, is_first = inputs()
    one = dynamics.observe(embed, action, is_first, sample=False).posterior
    other = dynamics.observe(embed, action + 1, is_first, sample=False).posterior
    assert torch.equal(one.logits, other.logits)
    assert not torch.equal(one.deter, other.deter)


def test_an_unknown_posterior_is_refused() -> None:
    with pytest.raises(ValueError, match="'full' or 'observation', got 'half'"):
        build("crssm", "half")
