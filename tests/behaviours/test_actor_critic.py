"""Actor and critics: what each loss raises, what it leaves alone, and whose gradient is whose.

The worlds here are small and random; what the losses must be is written out beside them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.sizes import ACTIONS, CONTINUOUS, DISCRETE, VECTOR, batch, model
from thick.behaviours.actor_critic import ActorCritic, LongValues
from thick.behaviours.config import BehaviourConfig
from thick.behaviours.rewards import TaskReward
from thick.behaviours.rollouts import rollout, survival
from thick.learners.parts import Losses, Shared
from thick.models.beliefs import State
from thick.models.classes import dense
from thick.models.distributions import normal_log_prob
from thick.models.networks import AgentNetworks

every_action = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
quick_if_continuous = pytest.mark.parametrize(
    "action",
    [
        pytest.param(action, id=name, marks=() if name == "continuous" else pytest.mark.slow)
        for name, action in ACTIONS.items()
    ],
)


class Fixed:
    """A reward that depends on the action alone: what the task would be if nothing had to be predicted."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def __call__(self, states: State, actions: Tensor) -> Tensor:
        return (actions * self.weights).sum(-1)


def learning(
    action: Any = DISCRETE, *, kind: str = "rssm", reward: Any = None, **settings: Any
) -> tuple[AgentNetworks, ActorCritic, Shared]:
    """A small model, the part that trains its behaviour, and a batch it has seen."""
    world = model(VECTOR, action, kind=kind, actor_critic=True)
    config = BehaviourConfig(**{"horizon": 4, **settings})
    assert world.behaviour is not None
    long = LongValues(world.world, world.hierarchy[0], 100.0) if kind == "thick" else None
    part = ActorCritic(
        "behaviour", world.world, world.behaviour, reward or TaskReward(world.world), config, long
    )
    data = batch(VECTOR, action)
    torch.manual_seed(5)
    return world, part, Shared(data, world.world.observe(data))


def losses(part: ActorCritic, shared: Shared, seed: int = 0) -> Losses:
    torch.manual_seed(seed)
    return part.losses(shared)


def descend(
    part: ActorCritic, shared: Shared, terms: dict[str, float], updates: int, lr: float = 3e-3
) -> None:
    """Plain descent of some weighted terms."""
    weights = [weight for group in part.groups().values() for weight in group.parameters]
    optimizer = torch.optim.Adam(weights, lr)
    for _ in range(updates):
        found = part.losses(shared).terms
        optimizer.zero_grad()
        gradients = torch.autograd.grad(
            torch.stack([scale * found[name] for name, scale in terms.items()]).sum(),
            weights,
            allow_unused=True,
        )
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimizer.step()


# -- the actor -----------------------------------------------------------------------------------------------------


@quick_if_continuous
def test_the_policy_loss_makes_actions_that_pay_likelier(action: Any) -> None:
    wanted = torch.tensor([0.0, 0.0, 1.0, 0.0]) if action is DISCRETE else torch.tensor([1.0, -1.0])
    world, part, shared = learning(action, reward=Fixed(wanted))
    feature = world.world.dynamics.features(shared.starts())
    assert world.behaviour is not None
    before = (world.behaviour.actor.sample(feature) * wanted).sum(-1).mean()
    descend(part, shared, {"policy": 1.0}, 60)
    after = (world.behaviour.actor.sample(feature) * wanted).sum(-1).mean()
    assert after > before + 0.25


@every_action
def test_the_entropy_term_spreads_the_policy(action: Any) -> None:
    world, part, shared = learning(action)
    feature = world.world.dynamics.features(shared.starts())
    assert world.behaviour is not None
    nn.init.normal_(world.behaviour.actor.mlp.out.weight, std=0.5)
    taken = world.behaviour.actor.sample(feature).detach()
    before = world.behaviour.actor.log_prob_and_entropy(feature, taken)[1].mean()
    descend(part, shared, {"entropy": 1.0}, 30)
    assert world.behaviour.actor.log_prob_and_entropy(feature, taken)[1].mean() > before + 0.02


def test_the_policy_loss_is_reinforce_with_the_target_as_baseline() -> None:
    world, part, shared = learning(DISCRETE, horizon=1, reward=Fixed(torch.tensor([1.0, 2.0, 3.0, 4.0])))
    behaviour = world.behaviour
    assert behaviour is not None
    found = losses(part, shared).terms["policy"]
    torch.manual_seed(0)
    seen = rollout(world.world, behaviour.actor.sample, shared.starts(), 1)
    assert world.world.heads.discount is not None
    goes_on = torch.sigmoid(world.world.heads.discount(seen.features)).squeeze(-1)
    value = part.target(seen.features).squeeze(-1)
    reward = (seen.actions * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum(-1)
    returns = reward[0] + goes_on[1] * value[1]
    log_prob = (behaviour.actor(seen.features[0]).log_softmax(-1) * seen.actions[0]).sum(-1)
    torch.testing.assert_close(found, -(log_prob * (returns - value[0])).mean())


def test_a_reward_is_credited_to_the_action_that_led_to_it() -> None:
    """Off by one, the return of the first step would hold the reward of the second action."""
    _, part, shared = learning(CONTINUOUS, horizon=2, lambda_=1.0)
    nn.init.zeros_(part.target.out.weight)
    seen: list[Tensor] = []

    def pays_once(states: State, actions: Tensor) -> Tensor:
        seen.append(actions)
        assert states.deter.shape[0] == actions.shape[0] + 1
        return torch.cat([torch.ones_like(actions[:1, :, 0]), torch.zeros_like(actions[1:, :, 0])])

    part.reward = pays_once
    # Received on entering the second state: worth 1 in the first state, and nothing in the second.
    assert losses(part, shared).metrics["return"].item() == pytest.approx(0.5)


def test_a_continuous_policy_is_taught_through_the_dynamics() -> None:
    world, part, shared = learning(CONTINUOUS)
    assert world.behaviour is not None
    weights = list(world.behaviour.actor.parameters())
    gradient = torch.autograd.grad(losses(part, shared).terms["policy"], weights)
    for weight in world.world.heads.reward.parameters():
        nn.init.zeros_(weight)
    for weight in part.target.parameters():
        nn.init.zeros_(weight)
    none = torch.autograd.grad(losses(part, shared).terms["policy"], weights, allow_unused=True)
    assert all(bool(part.any()) for part in gradient)
    assert not any(part is not None and bool(part.any()) for part in none)


# -- the critics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rssm", pytest.param("thick", marks=pytest.mark.slow)])
def test_critics_come_to_predict_the_returns(kind: str) -> None:
    world, part, shared = learning(kind=kind, reward=Fixed(torch.ones(4)), lambda_=1.0, long_weight=1.0)
    for weight in part.target.parameters():
        nn.init.zeros_(weight)
    assert world.world.heads.discount is not None
    nn.init.zeros_(world.world.heads.discount.out.weight)
    nn.init.constant_(world.world.heads.discount.out.bias, 20.0)  # goes on for certain
    terms = {"value": 1.0} | ({"coarse_value": 1.0} if kind == "thick" else {})
    descend(part, shared, terms, 150, lr=1e-2)
    # Every step pays 1 and nothing follows the horizon: 4, 3, 2, 1 are left, 2.5 on average over the steps.
    feature = world.world.dynamics.features(shared.starts())
    assert world.behaviour is not None
    assert world.behaviour.critic(feature).mean().item() == pytest.approx(2.5, abs=0.5)
    if world.behaviour.coarse_critic is not None:
        assert world.world.coarse_heads is not None
        coarse = world.world.dynamics.coarse_features(shared.starts().stoch, shared.starts().context)
        assert world.behaviour.coarse_critic(coarse).mean().item() == pytest.approx(2.5, abs=0.6)


@pytest.mark.parametrize("kind", ["rssm", "thick"])
@every_action
def test_no_term_reaches_the_weights_of_another_group(kind: str, action: Any) -> None:
    _, part, shared = learning(action, kind=kind)
    terms = losses(part, shared).terms
    owners = {"policy": "actor", "entropy": "actor", "value": "critic", "coarse_value": "critic"}
    assert terms.keys() == part.scales(0).keys() <= owners.keys()
    for name, term in terms.items():
        for group, (weights, _) in part.groups().items():
            gradients = torch.autograd.grad(term, weights, allow_unused=True, retain_graph=True)
            reached = any(gradient is not None and bool(gradient.any()) for gradient in gradients)
            assert reached == (owners[name] == group), (name, group)


@pytest.mark.parametrize("kind", ["rssm", "thick"])
def test_critic_losses_reach_nothing_but_critics(kind: str) -> None:
    world, part, shared = learning(CONTINUOUS, kind=kind)
    terms = losses(part, shared).terms
    elsewhere = [*world.world.parameters(), *world.levels.parameters()]
    for name in terms.keys() - {"policy"}:
        gradients = torch.autograd.grad(terms[name], elsewhere, allow_unused=True, retain_graph=True)
        assert all(gradient is None for gradient in gradients), name


def test_targets_follow_their_critics_only_now_and_then() -> None:
    world, part, _ = learning(kind="thick", target_every=10)
    assert world.behaviour is not None and world.behaviour.coarse_critic is not None
    for critic in (world.behaviour.critic, world.behaviour.coarse_critic):
        nn.init.constant_(critic.out.bias, 3.0)
    part.updated(9)
    assert part.target.out.bias.item() == 0
    part.updated(10)
    assert part.target.out.bias.item() == 3
    assert part.coarse_target is not None and part.coarse_target.out.bias.item() == 3


def test_states_after_a_predicted_end_weigh_nothing() -> None:
    discount = torch.tensor([[0.9], [0.5], [0.0], [0.9], [0.9]], requires_grad=True)
    weight = survival(discount)
    assert weight.squeeze(-1).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert not weight.requires_grad


# -- long values ---------------------------------------------------------------------------------------------------


def test_both_critics_learn_the_mixture_of_near_and_long_values() -> None:
    world, part, shared = learning(kind="thick", long_weight=0.25, horizon=1)
    behaviour, long = world.behaviour, part.long
    assert behaviour is not None and behaviour.coarse_critic is not None and long is not None
    long_value = 7.0
    part.long = type(
        "Known",
        (),
        {
            "coarse_features": long.coarse_features,
            "__call__": lambda self, states, critic: torch.full(states.deter.shape[:-1], long_value),
        },
    )()
    torch.manual_seed(0)
    seen = rollout(world.world, behaviour.actor.sample, shared.starts(), 1)
    assert world.world.heads.discount is not None
    near = world.world.heads.reward(seen.features[1]).squeeze(-1) + torch.sigmoid(
        world.world.heads.discount(seen.features[1])
    ).squeeze(-1) * part.target(seen.features[1]).squeeze(-1)
    goal = 0.25 * near + 0.75 * long_value
    terms = losses(part, shared).terms
    expected = -normal_log_prob(goal, behaviour.critic(seen.features[0]).squeeze(-1)).mean()
    torch.testing.assert_close(terms["value"], expected)


def test_a_long_value_is_the_jump_less_the_reward_of_now() -> None:
    world, part, shared = learning(kind="thick")
    level, heads, dynamics = world.hierarchy[0], world.world.coarse_heads, world.world.dynamics
    assert heads is not None and heads.discount is not None and part.long is not None
    for head, value in (
        (level.reward_head.out, 2.0),  # R of the segment
        (level.time_head.out, 3.0),  # 3 steps, then the one that leads into the change
        (heads.reward.out, 1.5),  # r[τ]
        (world.world.heads.reward.out, 0.25),  # r[t]
    ):
        nn.init.zeros_(head.weight)
        nn.init.constant_(head.bias, value)
    nn.init.zeros_(heads.discount.out.weight)
    nn.init.zeros_(heads.discount.out.bias)  # γ[τ] = 0.5

    def critic(feature: Tensor) -> Tensor:
        assert feature.shape[-1] == world.world.coarse_size
        return torch.full((*feature.shape[:-1], 1), 8.0)

    found = part.long(shared.starts(), critic)  # type: ignore[arg-type]
    expected = (2.0 + 0.99**4 * (1.5 + 0.5 * 8.0) - 0.25) / 0.99
    torch.testing.assert_close(found, torch.full_like(found, expected))
    assert dynamics.context > 0


def test_the_coarse_critic_reads_states_of_the_coarse_prior() -> None:
    world, part, shared = learning(kind="thick")
    assert part.long is not None and world.behaviour is not None
    seen = rollout(world.world, world.behaviour.actor.sample, shared.starts(), 3)
    index = shared.start_indices()
    coarse = dense(part.long.coarse_features(seen, shared.coarse_logits(index)))
    size = world.config.stoch * world.config.classes
    assert coarse.shape == (4, len(index), world.world.coarse_size)
    torch.testing.assert_close(coarse[..., size:], seen.states.context)
    assert torch.equal(coarse[..., :size].sum(-1), torch.full(coarse.shape[:2], float(world.config.stoch)))
    # Drawn from the coarse prior: where that is certain, whatever the fine state is.
    dynamics: Any = world.world.dynamics
    with torch.no_grad():
        nn.init.zeros_(dynamics.ctxt_img_logit.weight)
        dynamics.ctxt_img_logit.bias.copy_(
            torch.tensor([30.0, 0, 0, 0, 0]).repeat(world.config.stoch)  # always the first class
        )
    coarse = dense(part.long.coarse_features(seen, shared.coarse_logits(index)))
    assert (coarse[1:, :, :size].unflatten(-1, (world.config.stoch, -1)).argmax(-1) == 0).all()


def test_imagination_starts_in_every_state_from_which_the_episode_goes_on() -> None:
    _, part, shared = learning(starts=0)
    alive = int((shared.batch.is_terminal == 0).sum())
    assert shared.starts().deter.shape[0] == alive < shared.batch.is_terminal.numel()
    assert shared.starts(7).deter.shape[0] == 7
    assert shared.starts(10_000).deter.shape[0] == alive
    assert not shared.starts().deter.requires_grad
    counted: list[int] = []

    def count(states: State, actions: Tensor) -> Tensor:
        counted.append(actions.shape[1])
        return actions[..., 0] * 0

    part.reward = count
    losses(part, shared)
    part.config = replace(part.config, starts=5)
    losses(part, shared)
    assert counted == [alive, 5]


# -- variations ----------------------------------------------------------------------------------------------------


def test_a_slow_target_follows_by_a_share_of_the_way() -> None:
    world, part, _ = learning(kind="thick", target_rate=0.25)
    assert world.behaviour is not None and world.behaviour.coarse_critic is not None
    assert part.coarse_target is not None
    for critic in (world.behaviour.critic, world.behaviour.coarse_critic):
        nn.init.constant_(critic.out.bias, 4.0)
    part.updated(7)
    assert (part.target.out.bias.item(), part.coarse_target.out.bias.item()) == (1.0, 1.0)
    part.updated(8)
    assert part.target.out.bias.item() == 1.75
    part.updated(0)  # a run that begins with given weights
    assert part.target.out.bias.item() == 4.0


def test_normalized_returns_teach_the_same_whatever_the_unit_of_the_reward() -> None:
    losses_in_units = []
    for unit in (100.0, 1000.0):
        _, part, shared = learning(
            CONTINUOUS, reward=Fixed(unit * torch.tensor([1.0, -1.0])), normalize=True, lambda_=1.0
        )
        for weight in part.target.parameters():
            nn.init.zeros_(weight)
        losses_in_units.append(losses(part, shared).terms["policy"])
        assert part.return_range > 1
    torch.testing.assert_close(*losses_in_units)


def test_small_returns_are_not_blown_up() -> None:
    reward = Fixed(torch.tensor([1e-3, -1e-3]))
    _, plain, shared = learning(CONTINUOUS, reward=reward)
    _, normalized, _ = learning(CONTINUOUS, reward=reward, normalize=True)
    for part in (plain, normalized):
        for weight in part.target.parameters():
            nn.init.zeros_(weight)
    torch.testing.assert_close(
        losses(plain, shared).terms["policy"], losses(normalized, shared).terms["policy"]
    )
