"""Director: a manager chooses goals, a worker reaches them; both learn from the same imagined rollouts.

Symbols: N states imagination starts from, S goals in a row, K steps for each, H = S·K imagined steps, D size of a goal.
Time comes first: ``[H, N]``; what is cut into goals is ``[K, S, N]``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from thick.behaviours.actor_critic import regression
from thick.behaviours.config import DirectorConfig
from thick.behaviours.returns import lambda_returns
from thick.behaviours.rewards import TaskReward
from thick.behaviours.rollouts import discounts, survival
from thick.learners.parts import Group, Losses, Shared
from thick.models.beliefs import State
from thick.models.distributions import one_hot_sample
from thick.models.goals import DirectorNetworks, deterministic
from thick.models.layers import ScalarHead
from thick.models.world_model import WorldModel

EXTRINSIC, EXPLORATION, WORKER = range(3)
"""the three kinds of returns, each with a critic and a running spread of its own"""
DECAY = 0.999
"""of the running moments of the returns (the reference's)"""
LEAST = 1e-2
"""spread of returns at least: where there is none, nothing is blown up (the reference's)"""


class GoalRollout(NamedTuple):
    """N rollouts of S goals with K steps each."""

    states: State
    """[H+1, N, ...]"""
    features: Tensor
    """[H+1, N, F] fine features of the states"""
    actions: Tensor
    """[H, N, A]"""
    codes: Tensor
    """[S, N, G, C] what the manager chose, without gradient"""
    goals: Tensor
    """[S, N, D] what that stands for, without gradient"""


def goal_rollout(
    world: WorldModel, networks: DirectorNetworks, start: State, goals: int, every: int
) -> GoalRollout:
    """Follow manager and worker in imagination, both sampled.

    Gradient reaches the worker through the dynamics alone, not through what it looked at or where it was sent.

    Args:
        start: ``[N, ...]``.
        goals: S.
        every: K.
    """
    state, states, actions, codes, chosen = start, [start], [], [], []
    for _ in range(goals):
        with torch.no_grad():
            code = one_hot_sample(networks.codes(world.dynamics.features(state)))
            goal = networks.autoencoder.decode(code)
        codes.append(code)
        chosen.append(goal)
        for _ in range(every):
            feature = world.dynamics.features(state).detach()
            actions.append(networks.worker.sample(torch.cat([feature, goal], -1)))
            state = world.dynamics.imagine_step(state, actions[-1])
            states.append(state)
    imagined = State(*(torch.stack(parts) for parts in zip(*states, strict=True)))
    return GoalRollout(
        imagined,
        world.dynamics.features(imagined),
        torch.stack(actions),
        torch.stack(codes),
        torch.stack(chosen),
    )


def max_cosine(goal: Tensor, reached: Tensor) -> Tensor:
    """The inner product of both, divided by the square of the longer one's length (Director, equation 7): ``[*B]``.

    It is 1 at the goal alone; a cosine would also be where only the direction is right.
    """
    longer = torch.maximum(goal.norm(dim=-1), reached.norm(dim=-1)) + 1e-12
    return (goal * reached).sum(-1) / longer.square()


def by_goal(x: Tensor, every: int) -> Tensor:
    """``[H, N, ...]`` -> ``[K, S, N, ...]``; ``[H+1, N, ...]`` -> ``[K+1, S, N, ...]``, whose last step is where the
    next goal begins."""
    count = x.shape[0] // every
    length = every + x.shape[0] % every
    return torch.stack([x[index * every : index * every + length] for index in range(count)], 1)


class Director(nn.Module):
    """The part that trains manager and worker; what it keeps of its own are the critics' targets and the spreads.

    Args:
        world: where it imagines.
        networks: what is trained, but for the goal autoencoder.
        config: how.
    """

    name = "director"

    def __init__(self, world: WorldModel, networks: DirectorNetworks, config: DirectorConfig) -> None:
        super().__init__()
        self.start, self.config = config.start, config
        # In a tuple, so that they are not registered as submodules: the model keeps their weights.
        self._parts = (world, networks)
        self.every = world.config.goals.every
        self.reward = TaskReward(world)
        self.targets = copy.deepcopy(nn.ModuleList(self._critics()))
        self.moments: Tensor
        self.register_buffer("moments", torch.zeros(3, 3))  # number, mean and mean square, weighted by DECAY
        self.requires_grad_(False)

    def _critics(self) -> list[ScalarHead]:
        _, networks = self._parts
        return [networks.manager_critic, networks.exploration_critic, networks.worker_critic]

    # -- a part of a learner ---------------------------------------------------------------------------------

    def groups(self) -> dict[str, Group]:
        """Manager, worker, and the critics of both."""
        _, networks = self._parts
        critics = [weight for critic in self._critics() for weight in critic.parameters()]
        return {
            "manager": Group(list(networks.manager.parameters()), self.config.actor_lr),
            "worker": Group(list(networks.worker.parameters()), self.config.actor_lr),
            "critic": Group(critics, self.config.critic_lr),
        }

    def scales(self, update: int) -> Mapping[str, float]:
        """Everything counts once but the entropies."""
        return {
            "manager_policy": 1.0,
            "manager_entropy": self.config.manager_entropy,
            "manager_value": 1.0,
            "exploration_value": 1.0,
            "worker_policy": 1.0,
            "worker_entropy": self.config.worker_entropy,
            "worker_value": 1.0,
        }

    def updated(self, update: int) -> None:
        """Copy the critics to their targets now and then."""
        if update % self.config.target_every == 0:
            for target, critic in zip(self.targets, self._critics(), strict=True):
                target.load_state_dict(critic.state_dict())

    # -- losses ----------------------------------------------------------------------------------------------

    def losses(self, shared: Shared) -> Losses:
        """Losses of manager and worker from imagination that starts in the batch's filtered states."""
        (world, networks), config = self._parts, self.config
        with torch.set_grad_enabled(world.continuous):
            start = shared.starts(config.starts or None)
            imagined = goal_rollout(world, networks, start, config.goals, self.every)
            discount = discounts(world, imagined.features)  # [H+1, N]
        terms, metrics = self._manager(imagined, discount.detach())
        worker_terms, worker_metrics = self._worker(imagined, discount)
        metrics |= worker_metrics
        return Losses(terms | worker_terms, {name: value.detach() for name, value in metrics.items()})

    def _manager(
        self, imagined: GoalRollout, discount: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Its steps are goals: a reward is the mean over the K steps of one, a discount γ times the probability that
        the episode goes on through all of them."""
        (world, networks), config, every = self._parts, self.config, self.every
        gamma = world.config.discount
        goes_on = (discount / gamma).clamp(max=1.0)
        within = by_goal(goes_on, every)[1:].cumprod(0)  # [K, S, N]
        reached = torch.cat([torch.ones_like(within[:1]), within[:-1]])
        discount = torch.cat([torch.ones_like(within[:1, 0]), gamma * within[-1]])  # [S+1, N]
        features = imagined.features[::every].detach()  # [S+1, N, F]
        weight = survival(discount)
        log_prob, entropy = networks.log_prob_and_entropy(features[:-1], imagined.codes)
        with torch.no_grad():
            extrinsic = self.reward(imagined.states, imagined.actions)  # [H, N]
            entered = State(*(part[1:] for part in imagined.states))
            exploration = networks.autoencoder.novelty(deterministic(entered))
        terms: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        advantage = torch.zeros_like(weight)
        for name, kind, steps, scale in (
            ("manager", EXTRINSIC, extrinsic, config.extrinsic),
            ("exploration", EXPLORATION, exploration, config.exploration),
        ):
            reward = (by_goal(steps, every) * reached).mean(0)  # [S, N]
            with torch.no_grad():
                value = self.targets[kind](features).squeeze(-1).float()
            returns = lambda_returns(reward, value[:-1], discount[1:], value[-1], lambda_=config.lambda_)
            advantage = advantage + scale * (returns - value[:-1]) / self._spread(kind, returns)
            critic = self._critics()[kind]
            terms[f"{name}_value"] = regression(critic, features[:-1], returns, weight)
            metrics |= {f"{name}_reward": steps.mean(), f"{name}_return": returns.mean()}
        terms["manager_policy"] = -(weight * log_prob * advantage).mean()
        terms["manager_entropy"] = -(weight * entropy).mean()
        return terms, metrics | {"manager_policy_entropy": entropy.mean()}

    def _worker(self, imagined: GoalRollout, discount: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Each goal is a rollout of K steps, whose last state still gets the reward of the goal it was for."""
        (world, networks), config, every = self._parts, self.config, self.every
        weight = by_goal(survival(discount), every)  # [K, S, N]
        goals = imagined.goals.unsqueeze(0)  # [1, S, N, D]
        with torch.set_grad_enabled(world.continuous):
            features = by_goal(imagined.features, every)  # [K+1, S, N, F]
            read = torch.cat([features, goals.expand(every + 1, -1, -1, -1)], -1)
            arrived = by_goal(deterministic(State(*(part[1:] for part in imagined.states))), every)
            reward = max_cosine(goals, arrived.float())  # [K, S, N]
            value = self.targets[WORKER](read).squeeze(-1).float()
            going_on = by_goal(discount, every)
            returns = lambda_returns(reward, value[:-1], going_on[1:], value[-1], lambda_=config.lambda_)
        seen, taken = read[:-1].detach(), by_goal(imagined.actions, every).detach()
        log_prob, entropy = networks.worker.log_prob_and_entropy(seen, taken)
        # Discrete actions by REINFORCE with a baseline, continuous ones through the dynamics.
        gain = returns if world.continuous else log_prob * (returns - value[:-1]).detach()
        advantage = gain / self._spread(WORKER, returns)
        terms = {
            "worker_policy": -(weight * advantage).mean(),
            "worker_entropy": -(weight * entropy).mean(),
            "worker_value": regression(networks.worker_critic, seen, returns.detach(), weight),
        }
        return terms, {
            "worker_reward": reward.mean(),
            "worker_return": returns.mean(),
            "worker_policy_entropy": entropy.mean(),
        }

    @torch.no_grad()
    def _spread(self, kind: int, returns: Tensor) -> Tensor:
        """Running standard deviation of a kind of returns, which joins it."""
        new = torch.stack([torch.ones_like(returns.mean()), returns.mean(), returns.square().mean()])
        self.moments[kind].mul_(DECAY).add_(new, alpha=1 - DECAY)
        number, mean, square = self.moments[kind]
        return (square / number - (mean / number).square()).clamp_min(0).sqrt().clamp_min(LEAST)
