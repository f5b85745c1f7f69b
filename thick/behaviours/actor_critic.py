"""Dreamer's actor and critic, trained in imagination; with a level above the dynamics, THICK Dreamer's long values.

Symbols: N states imagination starts from, H imagined steps. Time comes first: ``[H, N]``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from thick.behaviours.config import BehaviourConfig
from thick.behaviours.returns import lambda_returns, long_returns
from thick.behaviours.rollouts import Rollout, discounts, head_discount, rollout, survival
from thick.learners.parts import Group, Losses, Reward, Shared, drawn
from thick.models.beliefs import State
from thick.models.classes import Classes
from thick.models.distributions import class_sample, one_hot_sample
from thick.models.dynamics.crssm import CRSSM
from thick.models.hierarchy.level import HighLevel
from thick.models.layers import ScalarHead
from thick.models.networks import Behaviour
from thick.models.world_model import WorldModel


class LongValues:
    """Values over one jump of a level: what THICK Dreamer adds to Dreamer.

    Args:
        world: with a C-RSSM; its coarse heads evaluate where a jump lands.
        level: the level that jumps.
        max_time: bound on the predicted number of steps before a change.
    """

    def __init__(self, world: WorldModel, level: HighLevel, max_time: float) -> None:
        assert isinstance(world.dynamics, CRSSM) and world.coarse_heads is not None
        self.world, self.level, self.max_time = world, level, max_time
        self.dynamics, self.heads, self.gamma = world.dynamics, world.coarse_heads, world.config.discount

    @torch.no_grad()
    def coarse_features(self, imagined: Rollout, first_logits: Tensor) -> Tensor:
        """Features ``[z^c, c]`` of a rollout's states, ``[H+1, N, F]``: z drawn from the prior that never saw h.

        It is the kind of state in which a jump lands, so a critic of these is trained on what it is asked about.

        Args:
            first_logits: ``[N, S, K]`` coarse prior of the starts.
        """
        states, dynamics = imagined.states, self.dynamics
        logits = dynamics.coarse_prior(states.stoch[:-1], imagined.actions, states.context[1:])
        stoch = class_sample(torch.cat([first_logits.unsqueeze(0), logits]))
        return dynamics.coarse_features(stoch, states.context.detach())

    @torch.no_grad()
    def __call__(self, states: State, critic: nn.Module) -> Tensor:
        """V_long of states ``[*B]`` by one jump: R + γ^Δ (r[τ] + γ[τ] v(s[τ])), less the reward of now.

        High-level action, both states and the low-level action are sampled, so that the values are those of what the
        level expects on average and not of its likeliest guess.

        Args:
            critic: v, of coarse features.
        """
        if not isinstance(states.stoch, Classes):
            states = states._replace(stoch=Classes.of(states.stoch))
        high_action = one_hot_sample(self.level.prior(states.stoch, states.context))
        jump = self.level.jump(
            self.dynamics, states.stoch, states.context, high_action, max_time=self.max_time, sample=True
        )
        feature = self.dynamics.coarse_features(jump.stoch, jump.context)
        long = long_returns(
            jump.returns.float(),
            self.gamma ** jump.elapsed.float(),
            self.heads.reward(feature).squeeze(-1).float(),
            head_discount(self.heads.discount, feature, self.gamma),
            critic(feature).squeeze(-1).float(),
        )
        # R begins with the reward of the state the jump starts from, which V^λ leaves out: values count what follows.
        here = self.world.heads.reward(self.dynamics.features(states)).squeeze(-1).float()
        return (long - here) / self.gamma


class ActorCritic(nn.Module):
    """The part that trains an actor and its critics; what it keeps of its own are the critics' targets.

    Args:
        name: of the part.
        world: where it imagines.
        behaviour: the networks that are trained; its coarse critic, where it has one, with V_long.
        reward: what the actor seeks.
        config: how.
        long: V_long, where the behaviour has a coarse critic.
    """

    def __init__(
        self,
        name: str,
        world: WorldModel,
        behaviour: Behaviour,
        reward: Reward,
        config: BehaviourConfig,
        long: LongValues | None = None,
    ) -> None:
        super().__init__()
        if (behaviour.coarse_critic is None) != (long is None):
            raise ValueError("a coarse critic and V_long come together: expected both, or neither")
        self.return_range: Tensor
        self.name, self.start, self.config = name, config.start, config
        self.reward, self.long = reward, long
        # In a tuple, so that they are not registered as submodules: the model keeps their weights.
        self._parts = (world, behaviour)
        self.target = copy.deepcopy(behaviour.critic)
        self.coarse_target = copy.deepcopy(behaviour.coarse_critic)
        self.register_buffer("return_range", torch.tensor(-1.0))
        self.requires_grad_(False)

    # -- a part of a learner ---------------------------------------------------------------------------------

    def groups(self) -> dict[str, Group]:
        """Actor and critics."""
        _, behaviour = self._parts
        critics = [critic for critic in (behaviour.critic, behaviour.coarse_critic) if critic is not None]
        return {
            "actor": Group(list(behaviour.actor.parameters()), self.config.actor_lr),
            "critic": Group(
                [weight for net in critics for weight in net.parameters()], self.config.critic_lr
            ),
        }

    def scales(self, update: int) -> Mapping[str, float]:
        """Everything counts once but the actor's entropy."""
        coarse = {} if self.long is None else {"coarse_value": 1.0}
        return {"policy": 1.0, "entropy": self.config.entropy, "value": 1.0, **coarse}

    def updated(self, update: int) -> None:
        """The targets follow their critics: in copies now and then, or slowly after every update."""
        rate = self.config.target_rate if update else 1.0
        if rate == 0:
            rate = float(update % self.config.target_every == 0)
        _, behaviour = self._parts
        for target, critic in (
            (self.target, behaviour.critic),
            (self.coarse_target, behaviour.coarse_critic),
        ):
            if rate and target is not None and critic is not None:
                for old, new in zip(target.parameters(), critic.parameters(), strict=True):
                    old.lerp_(new.detach(), rate)

    # -- losses ----------------------------------------------------------------------------------------------

    def losses(self, shared: Shared) -> Losses:
        """Losses of actor and critics from imagination that starts in the batch's filtered states."""
        (world, behaviour), config = self._parts, self.config
        index = shared.start_indices(config.starts or None)
        with torch.set_grad_enabled(world.continuous):
            imagined = rollout(world, behaviour.actor.sample, shared.at(index), config.horizon)
            reward = self.reward(imagined.states, imagined.actions)  # [H, N]
            discount = discounts(world, imagined.features)  # [H+1, N]
            value = self.target(imagined.features).squeeze(-1).float()  # [H+1, N]
            # reward[t] is received on entering state t+1; the action at t is credited with it.
            returns = lambda_returns(reward, value[:-1], discount[1:], value[-1], lambda_=config.lambda_)
        weight = survival(discount)
        seen, taken = imagined.features[:-1].detach(), imagined.actions.detach()
        log_prob, entropy = behaviour.actor.log_prob_and_entropy(seen, taken)
        # Discrete actions by REINFORCE with a baseline, continuous ones through the dynamics.
        gain = returns if world.continuous else log_prob * (returns - value[:-1]).detach()
        advantage = gain / self._range(returns) if config.normalize else gain
        terms = {"policy": -(weight * advantage).mean(), "entropy": -(weight * entropy).mean()}
        metrics = {
            "return": returns.mean(),
            "reward": reward.mean(),
            "policy_entropy": entropy.mean(),
            "survival": weight[-1].mean(),
        }
        which = drawn(len(index), config.critic_share, weight.device)
        few, goal, weight = imagined.of(which), returns.detach()[:, which], weight[:, which]
        if self.long is not None:
            long = self.long(State(*(part[:-1] for part in few.states)), self._coarse_target)
            goal = config.long_weight * goal + (1 - config.long_weight) * long
            metrics["long_value"] = long.mean()
            coarse = self.long.coarse_features(few, shared.coarse_logits(index)[which])[:-1]
            assert behaviour.coarse_critic is not None
            terms["coarse_value"] = regression(behaviour.coarse_critic, coarse, goal, weight)
        terms["value"] = regression(behaviour.critic, few.features[:-1], goal, weight)
        return Losses(terms, {name: value.detach() for name, value in metrics.items()})

    @torch.no_grad()
    def _range(self, returns: Tensor) -> Tensor:
        """Running range of the returns between their 5th and 95th percentile, at least 1 (DreamerV3)."""
        # Sampled where there are many: quantiles sort.
        flat = returns.flatten()
        few = flat[:: max(1, len(flat) // 4096)]
        low, high = torch.quantile(few, torch.linspace(0.05, 0.95, 2, device=few.device))
        new = high - low
        self.return_range.copy_(torch.where(self.return_range < 0, new, self.return_range.lerp(new, 0.01)))
        return self.return_range.clamp_min(1.0)

    @property
    def _coarse_target(self) -> nn.Module:
        assert self.coarse_target is not None
        return self.coarse_target


def regression(critic: ScalarHead, feature: Tensor, goal: Tensor, weight: Tensor) -> Tensor:
    """Weighted negative log-likelihood of the goals ``[...]`` of features ``[..., F]``; a scalar."""
    return -(weight * critic.log_prob(feature, goal)).mean()
