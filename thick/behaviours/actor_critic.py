"""Dreamer's actor and critic, trained in imagination; with a high level, THICK Dreamer's long values as well."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from thick.behaviours.returns import lambda_returns, long_returns
from thick.models.batch import Batch
from thick.models.beliefs import State, Trajectory
from thick.models.distributions import (
    normal_log_prob,
    one_hot_sample,
)
from thick.models.dynamics.crssm import CRSSM
from thick.models.world_model import WorldModel


class ActorCritic(nn.Module):
    """Actor, critic and its target; for THICK a coarse critic too.

    Args:
        model: the world model to imagine in; it holds actor and critics. It is not a submodule: only the targets
            are this module's own weights.
        config: a ``thick.behaviours.config.BehaviourConfig`` or anything with its fields.
    """

    def __init__(self, model: WorldModel, config: Any) -> None:
        super().__init__()
        if model.actor is None or model.critic is None:
            raise ValueError("the model has no actor and critic: set model.actor_critic")
        # In a tuple, so that they are not registered as submodules.
        self._parts = (model, model.actor, model.critic)
        self.config = config
        self.target = copy.deepcopy(model.critic)
        self.coarse_target = copy.deepcopy(model.coarse_critic)

    def update_target(self) -> None:
        """Copy the critics to their targets."""
        model, _, critic = self._parts
        self.target.load_state_dict(critic.state_dict())
        if self.coarse_target is not None and model.coarse_critic is not None:
            self.coarse_target.load_state_dict(model.coarse_critic.state_dict())

    def losses(self, batch: Batch, trajectory: Trajectory) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses of actor and critic from imagination that starts in the batch's posterior states.

        Args:
            batch, trajectory: what the world model was just trained on.

        Returns:
            ``{"actor", "critic"}`` and metrics.
        """
        (model, actor, critic), config = self._parts, self.config
        start = self._starts(batch, trajectory)
        with torch.set_grad_enabled(model.continuous):
            states, actions = self._imagine(start)
        features = model.dynamics.features(states)  # [H+1, N, F], the first is the start
        with torch.set_grad_enabled(model.continuous):
            reward = model.heads.reward(features).squeeze(-1).float()
            discount = self._discount(model.heads, features)
            value = self.target(features).squeeze(-1).float()
            # reward[t+1] is received on entering state t+1; the action at t is credited with it.
            returns = lambda_returns(reward[1:], value[:-1], discount[1:], value[-1], lambda_=config.lambda_)
        # States after a predicted end do not count.
        weight = torch.cat([torch.ones_like(discount[:1]), discount[1:-1]]).cumprod(0).detach()
        fixed = features.detach()
        log_prob, entropy = actor.judge(fixed[:-1], actions.detach())
        if model.continuous:
            objective = returns
        else:
            baseline = self.target(fixed[:-1]).squeeze(-1).float()
            objective = log_prob * (returns - baseline).detach()
        actor_loss = -(weight * (objective + config.entropy * entropy)).mean()
        goal = returns.detach()
        metrics = {"return": goal.mean(), "entropy": entropy.mean(), "imagined_reward": reward[1:].mean()}
        prediction = critic(fixed[:-1]).squeeze(-1).float()
        if model.coarse_critic is None:
            critic_loss = -(weight * normal_log_prob(goal, prediction)).mean()
        else:
            states = State(*(part[:-1].detach() for part in states))
            long = self._long_values(states)
            goal = config.long_weight * goal + (1 - config.long_weight) * long
            assert isinstance(model.dynamics, CRSSM)
            coarse = model.coarse_critic(model.dynamics.coarse_features(states.stoch, states.context))
            critic_loss = -(
                weight
                * (normal_log_prob(goal, prediction) + normal_log_prob(goal, coarse.squeeze(-1).float()))
            ).mean()
            metrics["long_value"] = long.mean()
        return {"actor": actor_loss, "critic": critic_loss}, metrics

    # -- parts -----------------------------------------------------------------------------------------------

    def _starts(self, batch: Batch, trajectory: Trajectory) -> State:
        """Up to ``config.starts`` posterior states ``[N]`` in which the episode has not ended."""
        alive = (batch.is_terminal.flatten() == 0).nonzero().squeeze(-1)
        chosen = alive[torch.randperm(len(alive), device=alive.device)[: self.config.starts]]
        return State(*(part.detach().flatten(0, 1)[chosen] for part in trajectory.posterior))

    def _imagine(self, state: State) -> tuple[State, Tensor]:
        """States ``[H+1, N, ...]`` and actions ``[H, N, A]`` of the actor's roll-out in the model."""
        model, actor, _ = self._parts
        dynamics = model.dynamics
        states, actions = [state], []
        for _ in range(self.config.horizon):
            # Gradients reach the actor through the dynamics, not through the feature it looked at (DreamerV2).
            action = actor.sample(dynamics.features(state).detach())
            state = dynamics.imagine_step(state, action)
            states.append(state)
            actions.append(action)
        return State(*(torch.stack(parts) for parts in zip(*states, strict=True))), torch.stack(actions)

    def _discount(self, heads: Any, feature: Tensor) -> Tensor:
        """γ times the probability that the episode goes on, ``[...]``."""
        if heads.discount is None:
            return torch.full_like(feature[..., 0], self._parts[0].config.discount).float()
        return torch.sigmoid(heads.discount(feature).squeeze(-1).float())

    @torch.no_grad()
    def _long_values(self, states: State) -> Tensor:
        """V_long of every imagined state by one jump of the high level (THICK Dreamer, equation 13)."""
        model = self._parts[0]
        assert model.high is not None and model.coarse_heads is not None and self.coarse_target is not None
        assert isinstance(model.dynamics, CRSSM)
        high_action = one_hot_sample(model.high.prior(states.stoch, states.context))
        jump = model.high.jump(
            model.dynamics,
            states.stoch,
            states.context,
            high_action,
            max_time=model.config.high.max_time,
            sample=True,
        )
        feature = model.dynamics.coarse_features(jump.stoch, jump.context)
        long = long_returns(
            jump.returns.float(),
            model.config.discount ** jump.elapsed.float(),
            model.coarse_heads.reward(feature).squeeze(-1).float(),
            self._discount(model.coarse_heads, feature),
            self.coarse_target(feature).squeeze(-1).float(),
        )
        # R begins with the reward of the state the jump starts from, which V^λ leaves out: values count what follows.
        here = model.heads.reward(model.dynamics.features(states)).squeeze(-1).float()
        return (long - here) / model.config.discount
