"""Director against a plain reading of its paper in numpy; whose gradient is whose; goals are held while acting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.models.sizes import ACTIONS, CONTINUOUS, DISCRETE, VECTOR, batch, model, observations
from thick.behaviours.config import DirectorConfig
from thick.behaviours.director import EXPLORATION, EXTRINSIC, WORKER, Director, goal_rollout, max_cosine
from thick.learners.goals import GoalPart
from thick.learners.parts import Losses, Shared
from thick.models.config import GoalConfig
from thick.models.distributions import one_hot_sample
from thick.models.goals import DirectorNetworks, deterministic
from thick.models.networks import AgentNetworks
from thick.runtimes.native.library import NativeUnavailable
from thick.runtimes.native.model import NativeModel
from thick.runtimes.torch.agents import torch_agent
from thick.runtimes.torch.runtime import TorchRuntime

EVERY, GOALS = 3, 2
every_action = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())


def directed(action: Any = DISCRETE) -> AgentNetworks:
    """A small model with a manager and a worker that are sure of some things."""
    world = model(
        VECTOR,
        action,
        kind="rssm",
        behaviour="director",
        goals=GoalConfig(codes=2, classes=3, every=EVERY),
        discount=0.9,
    )
    torch.manual_seed(2)
    assert world.director is not None
    for name, weight in world.director.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight, std=0.5)
    return world


def learning(
    action: Any = DISCRETE, **settings: Any
) -> tuple[AgentNetworks, DirectorNetworks, Director, Shared]:
    world = directed(action)
    assert world.director is not None
    config = DirectorConfig(**{"goals": GOALS, **settings})
    part = Director(world.world, world.director, config)
    data = batch(VECTOR, action)
    torch.manual_seed(5)
    return world, world.director, part, Shared(data, world.world.observe(data))


def losses(part: Director, shared: Shared) -> Losses:
    torch.manual_seed(0)
    return part.losses(shared)


def array(x: Tensor) -> np.ndarray:
    return x.detach().numpy().astype(np.float64)


def plain_returns(reward: np.ndarray, value: np.ndarray, discount: np.ndarray, lambda_: float) -> np.ndarray:
    """λ-returns as the paper defines them, from the last to the first: value and discount have one step more."""
    returns, last = np.zeros_like(reward), value[-1]
    for t in reversed(range(len(reward))):
        last = reward[t] + discount[t + 1] * ((1 - lambda_) * value[t + 1] + lambda_ * last)
        returns[t] = last
    return returns


def plain_value_loss(value: np.ndarray, returns: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * 0.5 * ((value - returns) ** 2 + np.log(2 * np.pi))).mean())


@every_action
def test_losses_of_manager_and_worker_are_those_of_the_paper(action: Any) -> None:
    world, networks, part, shared = learning(action, exploration=0.3)
    for target in part.targets:  # targets and critics must be told apart
        nn.init.normal_(target.out.bias)
    found = losses(part, shared).terms

    # The same random numbers: the rollout first, then the codes of the bonus.
    torch.manual_seed(0)
    start = shared.starts()
    seen = goal_rollout(world.world, networks, start, GOALS, EVERY)
    torch.manual_seed(0)
    goal_rollout(world.world, networks, start, GOALS, EVERY)
    bonus = array(networks.autoencoder.novelty(deterministic(seen.states)[1:]))
    feature, deter = array(seen.features), array(deterministic(seen.states))
    goals, steps = array(seen.goals), GOALS * EVERY
    heads = world.world.heads
    assert heads.discount is not None
    task = array(heads.reward(seen.features).squeeze(-1))
    going = 1 / (1 + np.exp(-array(heads.discount(seen.features).squeeze(-1))))  # γ · P
    gamma, lambda_ = 0.9, part.config.lambda_
    sure = np.minimum(going / gamma, 1)
    values = [array(target(seen.features).squeeze(-1)) for target in list(part.targets)[:2]]
    critics = [
        array(net(seen.features).squeeze(-1))
        for net in (networks.manager_critic, networks.exploration_critic)
    ]

    # The manager: one step for each goal.
    times = list(range(0, steps + 1, EVERY))
    count = feature.shape[1]
    discount, rewards = np.ones((GOALS + 1, count)), np.zeros((2, GOALS, count))
    for goal in range(GOALS):
        alive = np.ones(count)
        for step in range(EVERY):
            entered = goal * EVERY + step + 1
            rewards[EXTRINSIC, goal] += alive * task[entered] / EVERY
            rewards[EXPLORATION, goal] += alive * bonus[entered - 1] / EVERY
            alive = alive * sure[entered]
        discount[goal + 1] = gamma * alive
    weight = np.cumprod(np.concatenate([np.ones((1, count)), discount[1:-1]]), 0)
    logits = array(networks.codes(seen.features[:-1:EVERY]))
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = (array(seen.codes) * log_probs).sum((-1, -2))
    advantage = np.zeros_like(weight)
    for kind, name, scale in ((EXTRINSIC, "manager", 1.0), (EXPLORATION, "exploration", 0.3)):
        value = values[kind][times]
        returns = plain_returns(rewards[kind], value, discount, lambda_)
        advantage += scale * (returns - value[:-1]) / max(returns.std(), 1e-2)
        expected = plain_value_loss(critics[kind][times[:-1]], returns, weight)
        np.testing.assert_allclose(found[f"{name}_value"].item(), expected, rtol=1e-4)
    np.testing.assert_allclose(
        found["manager_policy"].item(), -(weight * chosen * advantage).mean(), rtol=1e-3, atol=1e-6
    )
    entropy = -(np.exp(log_probs) * log_probs).sum((-1, -2))
    np.testing.assert_allclose(found["manager_entropy"].item(), -(weight * entropy).mean(), rtol=1e-4)

    # The worker: an episode for each goal, rewarded by that goal to its last state.
    def read(at: int, goal: int) -> Tensor:
        return torch.cat([seen.features[at], seen.goals[goal]], -1).detach()

    weight = np.cumprod(np.concatenate([np.ones((1, count)), going[1:-1]]), 0)
    value_losses, policies, entropies, told = [], [], [], []
    for goal in range(GOALS):
        at = list(range(goal * EVERY, (goal + 1) * EVERY + 1))
        value = np.stack([array(part.targets[WORKER](read(t, goal)).squeeze(-1)) for t in at])
        reward = []
        for t in at[1:]:
            longer = np.maximum(np.linalg.norm(goals[goal], axis=-1), np.linalg.norm(deter[t], axis=-1))
            reward.append((goals[goal] / longer[:, None] * deter[t] / longer[:, None]).sum(-1))
        returns = plain_returns(np.stack(reward), value, going[at], lambda_)
        told.append(returns)
        for index, t in enumerate(at[:-1]):
            log_prob, spread = networks.worker.log_prob_and_entropy(read(t, goal), seen.actions[t].detach())
            critic = array(networks.worker_critic(read(t, goal)).squeeze(-1))
            value_losses.append(plain_value_loss(critic, returns[index], weight[t]))
            gain = (
                returns[index] if action is CONTINUOUS else array(log_prob) * (returns[index] - value[index])
            )
            policies.append(-(weight[t] * gain).mean())
            entropies.append(-(weight[t] * array(spread)).mean())
    spread_of_returns = max(np.stack(told).std(), 1e-2)
    np.testing.assert_allclose(found["worker_value"].item(), np.mean(value_losses), rtol=1e-4)
    np.testing.assert_allclose(
        found["worker_policy"].item(), np.mean(policies) / spread_of_returns, rtol=1e-3, atol=1e-6
    )
    np.testing.assert_allclose(found["worker_entropy"].item(), np.mean(entropies), rtol=1e-4)


def test_the_code_for_goals_is_taught_by_its_error_and_its_kl_to_uniform() -> None:
    world, networks, _, shared = learning()
    part = GoalPart(networks.autoencoder, DirectorConfig())
    torch.manual_seed(0)
    found = part.losses(shared).terms
    torch.manual_seed(0)
    feature = deterministic(shared.posterior)
    logits = networks.autoencoder.encode(feature)
    decoded = array(networks.autoencoder.decode(one_hot_sample(logits)))
    error = ((decoded - array(feature)) ** 2).sum(-1)
    log_probs = array(logits) - np.log(np.exp(array(logits)).sum(-1, keepdims=True))
    kl = (np.exp(log_probs) * (log_probs + np.log(3))).sum((-1, -2))
    np.testing.assert_allclose(found["kl"].item(), kl.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["reconstruction"].item(), error.mean(), rtol=1e-5)
    gradients = torch.autograd.grad(
        found["reconstruction"] + found["kl"],
        list(world.world.parameters()),
        allow_unused=True,
        retain_graph=True,
    )
    assert all(gradient is None for gradient in gradients)
    # Straight through the drawn code, so that the encoder learns from the error too.
    encoder = torch.autograd.grad(found["reconstruction"], list(networks.autoencoder.encoder.parameters()))
    assert all(bool(gradient.any()) for gradient in encoder)


def test_the_novelty_of_a_feature_is_the_mean_square_of_what_its_code_loses() -> None:
    _, networks, _, shared = learning()
    feature = deterministic(shared.posterior)
    torch.manual_seed(3)
    found = networks.autoencoder.novelty(feature)
    torch.manual_seed(3)
    decoded = array(networks.autoencoder.decode(one_hot_sample(networks.autoencoder.encode(feature))))
    np.testing.assert_allclose(array(found), ((decoded - array(feature)) ** 2).mean(-1), rtol=1e-5)


@pytest.mark.slow
def test_a_code_for_goals_comes_to_hold_what_was_seen() -> None:
    _, networks, _, shared = learning()
    part = GoalPart(networks.autoencoder, DirectorConfig())
    optimizer = torch.optim.Adam(networks.autoencoder.parameters(), 1e-2)
    told = []
    for _ in range(80):
        error = part.losses(shared).terms["reconstruction"]
        told.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert np.mean(told[-5:]) < 0.5 * told[0]


def test_max_cosine_is_largest_at_the_goal() -> None:
    goal = torch.tensor([[3.0, 4.0]])
    for factor in (0.2, 0.9, 1.0, 1.1, 5.0):
        expected = min(factor, 1 / factor)
        assert max_cosine(goal, factor * goal).item() == pytest.approx(expected)
    assert max_cosine(goal, -goal).item() == pytest.approx(-1.0)
    assert bool(torch.isfinite(max_cosine(0 * goal, 0 * goal)).all())


@every_action
def test_each_loss_teaches_its_own_weights_alone(action: Any) -> None:
    world, networks, part, shared = learning(action)
    found = losses(part, shared).terms
    owners = {
        "manager_policy": networks.manager,
        "manager_entropy": networks.manager,
        "manager_value": networks.manager_critic,
        "exploration_value": networks.exploration_critic,
        "worker_policy": networks.worker,
        "worker_entropy": networks.worker,
        "worker_value": networks.worker_critic,
    }
    assert found.keys() == owners.keys() == part.scales(0).keys()
    taught = {name: list(net.parameters()) for name, net in owners.items()}
    everything = list(networks.parameters())
    for name, term in found.items():
        gradients = torch.autograd.grad(term, everything, allow_unused=True, retain_graph=True)
        reached = {
            id(w) for w, g in zip(everything, gradients, strict=True) if g is not None and bool(g.any())
        }
        assert reached == {id(w) for w in taught[name]}, name
    # The worker learns through the dynamics where actions are continuous, and only there.
    through = torch.autograd.grad(
        found["worker_policy"], list(world.world.dynamics.parameters()), allow_unused=True
    )
    assert any(g is not None for g in through) == (action is CONTINUOUS)


@pytest.mark.slow
@every_action
def test_the_worker_comes_nearer_to_its_goals(action: Any) -> None:
    world, networks, part, shared = learning(action)
    with torch.no_grad():
        for weight in world.world.dynamics.parameters():
            weight.mul_(2.0)
    weights = list(networks.worker.parameters())
    optimizer = torch.optim.Adam(weights, 1e-2)
    for target in part.targets:
        nn.init.zeros_(target.out.weight)
        nn.init.zeros_(target.out.bias)
    told = []
    torch.manual_seed(0)
    for _ in range(80):
        found = part.losses(shared)
        told.append(found.metrics["worker_reward"].item())
        gradients = torch.autograd.grad(found.terms["worker_policy"], weights)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimizer.step()
    assert np.mean(told[-10:]) > np.mean(told[:10]) + 0.01


def test_what_the_worker_looks_at_carries_no_gradient() -> None:
    """It learns through what its actions lead to: gradient through its view would count each action twice."""
    _, networks, part, shared = learning(CONTINUOUS)
    sample, looked = networks.worker.sample, []

    def watched(read: Tensor) -> Tensor:
        looked.append(read.requires_grad)
        action = sample(read)
        assert action.requires_grad
        return action

    networks.worker.sample = watched  # type: ignore[method-assign]
    losses(part, shared)
    assert looked == [False] * (GOALS * EVERY)


def test_targets_are_copied_now_and_then() -> None:
    _, networks, part, _ = learning(target_every=4)
    nn.init.constant_(networks.worker_critic.out.bias, 7.0)
    part.updated(3)
    assert part.targets[WORKER].out.bias.item() != 7.0
    part.updated(4)
    assert part.targets[WORKER].out.bias.item() == 7.0


# -- acting --------------------------------------------------------------------------------------------------------


@every_action
def test_frozen_manager_and_worker_agree_with_the_trained_ones(action: Any) -> None:
    world, networks, _, shared = learning(action)
    manager = torch_agent(world).model.manager
    assert manager is not None
    states = shared.starts(5)
    belief = (
        torch_agent(world)
        .model.initial(5)
        ._replace(stoch=states.stoch.argmax(-1), deter=states.deter)
        .with_context(states.context)
    )
    feature = world.world.dynamics.features(states)
    uniforms = torch.rand(5, 2)
    goal = manager.goal(belief, uniforms)
    below = networks.codes(feature).softmax(-1).cumsum(-1) <= uniforms.unsqueeze(-1)
    code = nn.functional.one_hot(below.sum(-1).clamp(max=2), 3).float()
    torch.testing.assert_close(goal, networks.autoencoder.decode(code).detach())
    output, std = manager.policy(belief, goal)
    read = torch.cat([feature, goal], -1)
    if action is CONTINUOUS:
        expected = networks.worker.distribution(read)
        torch.testing.assert_close((output, std), (expected[0].detach(), expected[1].detach()))
    else:
        torch.testing.assert_close(output, networks.worker(read).detach())
    value = EVERY * networks.manager_critic(feature).squeeze(-1)
    torch.testing.assert_close(manager.value(belief), value.detach())


@every_action
def test_a_goal_is_held_for_its_steps_and_ends_with_the_episode(action: Any) -> None:
    agent = torch_agent(directed(action), planner={"method": "policy"})
    seen = observations(VECTOR, 1)
    state, goals, ages = agent.initial(1), [], []
    for step in range(9):
        first = step in (0, 5)
        keys = torch.tensor([100 + step])
        state = agent.observe(state, seen, is_first=torch.tensor([first]), keys=keys)
        result = agent.act(state, keys=keys)
        state = result.state
        goals.append(state.plan.goals[0].goal.clone())
        ages.append(state.plan.goals[0].age.item())
        assert torch.equal(agent.act(result.state, keys=keys).state.plan.goals[0].goal, goals[-1])
    assert ages == [0, 1, 2, 0, 1, 0, 1, 2, 0]
    for step, age in enumerate(ages):
        assert age == 0 or torch.equal(goals[step], goals[step - 1])


def test_a_session_acts_the_same_in_any_batch_and_from_a_copy_of_its_state() -> None:
    agent = torch_agent(directed(), planner={"method": "policy", "temperature": 1.0})
    seen = observations(VECTOR, 3)

    def play(rows: list[int]) -> list[Tensor]:
        state = agent.initial(len(rows))
        for step in range(5):
            keys = torch.tensor([7 + 10 * row + step for row in rows])
            mine = {name: array[rows] for name, array in seen.items()}
            state = agent.observe(state, mine, is_first=torch.full((len(rows),), step == 0), keys=keys)
            state = agent.act(state, keys=keys).state
        return [state.plan.goals[0].goal, state.previous_action]

    for whole, alone in zip(play([0, 1, 2]), play([1]), strict=True):
        torch.testing.assert_close(whole[1:2], alone, rtol=0, atol=0)


@pytest.mark.parametrize("policy", ["actor", "plan"])
def test_imagination_holds_goals_as_acting_does(policy: str) -> None:
    agent = torch_agent(directed(), planner={"method": "policy"})
    keys = torch.tensor([3])
    state = agent.observe(agent.initial(1), observations(VECTOR, 1), is_first=torch.tensor([True]), keys=keys)
    state = agent.act(state, keys=keys).state
    asked: list[int] = []
    manager = agent.model.manager
    assert manager is not None
    choose = manager.goal

    def counted(belief: Any, uniforms: Tensor) -> Tensor:
        asked.append(len(uniforms))
        return choose(belief, uniforms)

    manager.goal = counted  # type: ignore[method-assign]
    steps = list(agent.imagine(state, level="low", horizon=7, rollouts=2, policy=policy, keys=keys))
    assert len(steps) == 7
    assert asked == [2, 2]  # at the third and the sixth step: the first goal is the one that is held


def test_a_stored_session_goes_on_with_its_goal() -> None:
    runtime = TorchRuntime(torch_agent(directed(), planner={"method": "policy", "temperature": 1.0}))
    assert [leaf.name for leaf in runtime.layout.leaves if "goals" in leaf.name] == [
        "plan.goals.0.goal",
        "plan.goals.0.active",
        "plan.goals.0.age",
    ]
    seen = {name: array.numpy() for name, array in observations(VECTOR, 1).items()}

    def step(state: Any, index: int) -> tuple[Any, np.ndarray]:
        keys = np.array([40 + index])
        state = runtime.observe(state, seen, is_first=np.array([index == 0]), keys=keys)
        plan = runtime.plan(state, runtime.planner, keys=keys)
        while not plan.done:
            plan.step()
        return plan.result().state, plan.result().action

    state, _ = step(runtime.initial(1), 0)
    stored = runtime.unpack(runtime.pack(state))
    for index in (1, 2, 3):
        state, one = step(state, index)
        stored, other = step(stored, index)
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(runtime.pack(state), runtime.pack(stored))


def test_the_native_runtime_refuses_what_it_would_do_wrongly() -> None:
    world = directed()
    with pytest.raises(NativeUnavailable, match="manager and its worker, which the backend torch alone runs"):
        NativeModel({}, world.config, VECTOR, DISCRETE)
