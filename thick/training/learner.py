"""Learner: one update of everything that is learned, and its complete state."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from thick.agent import Agent
from thick.behaviours.actor_critic import ActorCritic
from thick.models.batch import Batch
from thick.models.world_model import WorldModel
from thick.runtimes.torch.agents import torch_agent
from thick.training.checkpoint import optimizer_tensors, restore_optimizer
from thick.training.config import TrainConfig


class Learner:
    """World model and behaviour with their optimisers.

    Args:
        config: the run.
        observation_space, action_space: of the environment.
    """

    def __init__(
        self, config: TrainConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space
    ) -> None:
        self.config = config
        self.device = torch.device(config.device)
        self.precision = "bf16" if config.precision == "bf16" else "fp32"
        """of matrix products; a run with ``precision: auto`` sets it before its first update"""
        self.model = WorldModel(config.model, observation_space, action_space).to(self.device)
        options = config.optimizer
        self._groups: dict[str, tuple[torch.optim.Adam, list[nn.Parameter], float]] = {}
        self._add("low", self.model.low_level_parameters(), options.lr)
        if self.model.high is not None:
            self._add("high", list(self.model.high.parameters()), options.high_lr)
        self.behaviour: ActorCritic | None = None
        if self.model.actor is not None:
            self.behaviour = ActorCritic(self.model, config.behaviour).to(self.device)
            self._add("actor", list(self.model.actor.parameters()), config.behaviour.actor_lr)
            self._add("critic", self.model.critic_parameters(), config.behaviour.critic_lr)
        self.updates = 0

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One update from one batch; returns losses and metrics as detached scalars."""
        config = self.config
        sparsity, kl = config.sparsity.at(self.updates), config.kl.at(self.updates)
        scales = {
            "sparsity": sparsity * config.model.loss.sparsity,
            "kl": kl * config.model.loss.kl,
            "coarse_kl": kl * config.model.loss.coarse_kl,
        }
        log: dict[str, Tensor] = {}
        with self._autocast(), torch.set_grad_enabled(not config.freeze_low):
            loss, trajectory, terms, metrics = self.model.losses(batch, scales=scales)
        log |= {f"loss/{name}": term for name, term in terms.items()}
        log |= {f"low/{name}": value for name, value in metrics.items()}
        log["low/sparsity_weight"], log["low/kl_weight"] = torch.tensor(sparsity), torch.tensor(kl)
        log["loss/low"] = loss
        if not config.freeze_low:
            log["grad_norm/low"] = self._step("low", loss)
        if self.model.high is not None:
            with self._autocast():
                loss, terms, metrics = self.model.high_losses(batch, trajectory)
            log |= {f"high/{name}": term for name, term in {**terms, **metrics}.items()}
            log["loss/high"] = loss
            log["grad_norm/high"] = self._step("high", loss)
        if self.behaviour is not None and self.updates >= config.behaviour.start:
            with self._autocast():
                losses, metrics = self.behaviour.losses(batch, trajectory)
            log |= {f"behaviour/{name}": value for name, value in {**losses, **metrics}.items()}
            for name, value in losses.items():
                log[f"grad_norm/{name}"] = self._step(name, value)
            if self.updates % config.behaviour.target_every == 0:
                self.behaviour.update_target()
        self.updates += 1
        return {name: value.detach() for name, value in log.items()}

    def agent(self, planner: dict[str, Any]) -> Agent:
        """An agent with a copy of the weights as they are now, for collecting and evaluating."""
        return torch_agent(copy.deepcopy(self.model), planner=planner, device=self.device)

    def tensors(self) -> dict[str, Tensor]:
        """Everything learned: weights, moments of the optimisers."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.behaviour is not None:
            tensors |= {f"behaviour.{name}": value for name, value in self.behaviour.state_dict().items()}
        for name, (optimizer, _, _) in self._groups.items():
            tensors |= optimizer_tensors(f"optimizer.{name}", optimizer)
        return tensors

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """The reverse of :meth:`tensors`."""
        self.model.load_state_dict(_under("model.", tensors))
        if self.behaviour is not None:
            self.behaviour.load_state_dict(_under("behaviour.", tensors))
        for name, (optimizer, _, _) in self._groups.items():
            restore_optimizer(f"optimizer.{name}", optimizer, tensors)
        self.updates = int(state["update"])

    def _add(self, name: str, parameters: list[nn.Parameter], lr: float) -> None:
        self._groups[name] = (
            torch.optim.Adam(parameters, lr=lr, eps=self.config.optimizer.eps, fused=True),
            parameters,
            lr,
        )

    def _step(self, name: str, loss: Tensor) -> Tensor:
        optimizer, parameters, lr = self._groups[name]
        options = self.config.optimizer
        for group in optimizer.param_groups:
            group["lr"] = options.rate(lr, self.updates, self.config.updates)
        optimizer.zero_grad(set_to_none=True)
        # Only this group's parameters receive gradients: imagination also reaches the world model's weights.
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        norm = torch.nn.utils.clip_grad_norm_(parameters, options.clip)
        optimizer.step()
        if options.weight_decay:
            with torch.no_grad():
                torch._foreach_mul_(list[Tensor](parameters), 1 - options.weight_decay)
        return norm

    def _autocast(self) -> torch.autocast:
        """bf16 matrix products where asked for; weights, losses and optimisers stay in fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
