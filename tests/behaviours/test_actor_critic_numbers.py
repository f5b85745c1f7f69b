"""Every term of actor and critics against a plain reading of their equations, from the same imagined steps.

Heads and critics have random weights, so that ends are predicted, values differ from state to state, and a step too
early or too late shows.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from tests.behaviours.test_actor_critic import learning, losses
from tests.models.sizes import CONTINUOUS, DISCRETE
from thick.behaviours import actor_critic
from thick.behaviours.rollouts import rollout
from thick.learners import parts
from thick.models.classes import Classes, dense

HORIZON, LAMBDA, PSI = 4, 0.8, 0.25


class Known:
    """V_long that a formula says; coarse features are those of the part that it stands for."""

    def __init__(self, long: Any) -> None:
        self.long, self.asked = long, list[tuple[Any, Any]]()
        self.coarse: Any = None
        self.first: Any = None

    def __call__(self, states: Any, critic: Any) -> Tensor:
        self.asked.append((states, critic))
        return 3.0 * states.deter.sum(-1) - 2.0

    def coarse_features(self, *given: Any) -> Any:
        self.first = given[1]
        self.coarse = self.long.coarse_features(*given)
        return self.coarse


def wild(*modules: nn.Module | None) -> None:
    """Weights so large that what a module says differs from state to state."""
    torch.manual_seed(11)
    for module in modules:
        for parameter in module.parameters() if module is not None else ():
            nn.init.normal_(parameter, std=0.6)


def truncated(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Points, and the density there, of normals truncated to [-1, 1]: ``[points, *shape]``."""
    x = torch.linspace(-1, 1, 4001, dtype=torch.float64).view(-1, *[1] * mean.ndim)
    density = torch.exp(-0.5 * ((x - mean.double()) / std.double()) ** 2)
    x = x.expand_as(density)
    return x, density / torch.trapezoid(density, x, dim=0)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("share", [1.0, 0.4], ids=["all", "a share"])
@pytest.mark.parametrize("ends", [True, False], ids=["ends", "no end"])
@pytest.mark.parametrize("kind", ["rssm", "thick"])
@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_every_term_is_what_its_equation_says(
    action: Any, kind: str, ends: bool, share: float, normalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, part, shared = learning(
        action,
        kind=kind,
        horizon=HORIZON,
        lambda_=LAMBDA,
        long_weight=PSI,
        normalize=normalize,
        critic_share=share,
    )
    chosen = []
    monkeypatch.setattr(actor_critic, "drawn", lambda *given: chosen.append(parts.drawn(*given)) or chosen[0])
    heads, behaviour = world.world.heads, world.behaviour
    assert behaviour is not None
    if not ends:
        heads.discount = None
    wild(heads.reward, heads.discount, part.target, part.coarse_target, behaviour.actor)
    known = None
    if part.long is not None:
        known = part.long = Known(part.long)  # type: ignore[assignment]
    found = losses(part, shared)
    torch.manual_seed(0)
    with torch.no_grad():
        seen = rollout(
            world.world, behaviour.actor.sample, shared.starts(part.config.starts or None), HORIZON
        )
    with torch.no_grad():
        reward = heads.reward(seen.features).squeeze(-1)[1:]
        value = part.target(seen.features).squeeze(-1)
        discount = torch.full_like(value, world.config.discount)
        if heads.discount is not None:
            discount = torch.sigmoid(heads.discount(seen.features).squeeze(-1))
            assert discount.std() > 0.05
    returns = torch.zeros_like(reward)
    after = value[HORIZON]
    for t in reversed(range(HORIZON)):
        after = reward[t] + discount[t + 1] * ((1 - LAMBDA) * value[t + 1] + LAMBDA * after)
        returns[t] = after
    weight = torch.ones_like(reward)
    for t in range(1, HORIZON):
        weight[t] = weight[t - 1] * discount[t]
    features = dense(seen.features)[:-1]
    if action is DISCRETE:
        policy = Categorical(logits=behaviour.actor.mlp(features))
        entropy = policy.entropy()
        gain = policy.log_prob(seen.actions.argmax(-1)) * (returns - value[:-1])
    else:
        mean, std = behaviour.actor.distribution(features)
        x, density = truncated(mean, std)
        entropy = -torch.trapezoid(density * density.clamp_min(1e-300).log(), x, dim=0).float().sum(-1)
        gain = returns
    if normalize:
        low, high = torch.quantile(returns, torch.tensor([0.05, 0.95]))
        gain = gain / max(1.0, float(high - low))
    torch.testing.assert_close(found.terms["policy"], -(weight * gain).mean(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.terms["entropy"], -(weight * entropy).mean(), atol=2e-3, rtol=2e-3)
    (which,) = chosen
    count = len(shared.start_indices(part.config.starts or None))
    assert (which == slice(None)) if share == 1 else len(which.unique()) == len(which) == round(share * count)
    goal, weight = returns[:, which], weight[:, which]
    if known is not None:
        long = 3.0 * seen.states.deter[:-1, which].sum(-1) - 2.0
        goal = PSI * goal + (1 - PSI) * long
        ((states, critic),) = known.asked
        assert critic is part.coarse_target
        for name in ("deter", "context"):
            torch.testing.assert_close(getattr(states, name), getattr(seen.states, name)[:-1, which])
            assert not getattr(states, name).requires_grad
        assert behaviour.coarse_critic is not None
        torch.testing.assert_close(known.first, shared.coarse_logits(shared.start_indices())[which])
        size = world.config.stoch * world.config.classes
        torch.testing.assert_close(dense(known.coarse)[..., size:], seen.states.context[:, which])
        expected = behaviour.coarse_critic(dense(known.coarse)[:-1].detach()).squeeze(-1)
        squared = 0.5 * ((expected - goal) ** 2 + math.log(2 * math.pi))
        torch.testing.assert_close(
            found.terms["coarse_value"], (weight * squared).mean(), atol=1e-4, rtol=1e-4
        )
    squared = 0.5 * ((behaviour.critic(features[:, which]).squeeze(-1) - goal) ** 2 + math.log(2 * math.pi))
    torch.testing.assert_close(found.terms["value"], (weight * squared).mean(), atol=1e-4, rtol=1e-4)


def test_the_coarse_prior_is_asked_with_the_context_that_the_step_led_to() -> None:
    world, part, shared = learning(kind="thick")
    assert part.long is not None and world.behaviour is not None
    seen = rollout(world.world, world.behaviour.actor.sample, shared.starts(), 3)
    dynamics: Any = part.long.dynamics
    asked: list[Any] = []
    plain = dynamics.coarse_prior
    dynamics.coarse_prior = lambda *given: asked.append(given) or plain(*given)
    part.long.coarse_features(seen, shared.coarse_logits(shared.start_indices()))
    ((stoch, actions, context),) = asked
    assert torch.equal(stoch, seen.states.stoch[:-1])
    assert torch.equal(actions, seen.actions) and torch.equal(context, seen.states.context[1:])
    assert not torch.equal(seen.states.context[1:], seen.states.context[:-1])


def test_a_long_value_samples_its_jump() -> None:
    world, part, shared = learning(kind="thick")
    assert part.long is not None
    level, start = world.hierarchy[0], shared.starts()
    nn.init.zeros_(level.prior_logit.weight)
    with torch.no_grad():
        level.prior_logit.bias.copy_(torch.tensor([60.0] + [0.0] * (level.actions - 1)))  # always the first
    wild(part.coarse_target)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(part.long(start, part.coarse_target))  # type: ignore[arg-type]
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


@pytest.mark.parametrize("grad", [True, False])
def test_what_the_actor_looks_at_carries_no_gradient(grad: bool) -> None:
    world, _, shared = learning(CONTINUOUS)
    assert world.behaviour is not None
    actor, looked = world.behaviour.actor, list[bool]()

    def sample(feature: Tensor) -> Tensor:
        looked.append(bool(getattr(feature, "requires_grad", False)))
        return actor.sample(feature)

    with torch.set_grad_enabled(grad):
        seen = rollout(world.world, sample, shared.starts(), 3)
    assert looked == [False] * 3
    assert dense(seen.features).requires_grad == grad
    assert isinstance(seen.states.stoch, Classes) != grad
