"""Learner: one update of everything that is learned, and its complete state."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from thick.agent import Agent
from thick.learners.parts import Group, Losses, Part, Shared
from thick.learners.recipes import RECIPES
from thick.models.batch import Batch
from thick.models.beliefs import State
from thick.models.networks import AgentNetworks
from thick.training.checkpoint import optimizer_tensors, restore_optimizer
from thick.training.config import TrainConfig
from thick.training.copies import ActingCopy, fastest_agent
from thick.training.recorded import Number, RecordedUpdates, Schedules, Updated


class Learner:
    """A model, the parts that train it, and their optimisers.

    Args:
        config: the run.
        observation_space, action_space: of the environment.

    Raises:
        ValueError: the model has not what the learner trains, or ``freeze`` names no part.
    """

    def __init__(
        self, config: TrainConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space
    ) -> None:
        self.config = config
        self.device = torch.device(config.device)
        self.precision = "bf16" if config.precision == "bf16" else "fp32"
        """of matrix products; a run with ``precision: auto`` sets it before its first update"""
        self.model = AgentNetworks(config.model, observation_space, action_space).to(self.device)
        self._recipe = RECIPES[config.learner](self.model, config)
        self.parts: list[Part] = self._recipe.parts
        for part in self.parts:
            if isinstance(part, nn.Module):
                part.to(self.device)
        names = [part.name for part in self.parts]
        unknown = [name for name in config.freeze if name not in names]
        if unknown:
            raise ValueError(
                f"freeze: {unknown[0]!r} is no part of {config.learner!r}, which has {', '.join(names)}"
            )
        self._optimizers = {
            part.name: {name: self._optimizer(group) for name, group in part.groups().items()}
            for part in self.parts
        }
        self._recorded = RecordedUpdates(self._update, self.device) if self.device.type == "cuda" else None
        self.updates = 0
        self.filtered: State | None = None
        """states ``[B, T, ...]`` of the last update's batch, without gradient; the next one may overwrite them"""

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One update of every part from one batch; returns losses and metrics as detached scalars."""
        active = [part for part in self.parts if self.updates >= part.start]
        schedules = self._schedules(active)
        if self._recorded is None:
            log, self.filtered = self._update(batch, schedules)
        else:
            log, self.filtered = self._recorded(self.precision, batch, schedules)
        for part in active:
            if part.name not in self.config.freeze:
                part.updated(self.updates)
        self.updates += 1
        return log

    def agent(self, planner: Mapping[str, Any]) -> Agent:
        """An agent with a copy of the weights as they are now; ``planner`` has its defaults."""
        return fastest_agent(self.model, planner=planner, device=self.device)

    def acting_copy(self, planner: Mapping[str, Any]) -> ActingCopy:
        """What collects experience, by the recipe's behaviour for that where it has one of its own."""
        model = self.model
        if self._recipe.explorer is not None:
            model = copy.copy(model)
            model._modules = dict(model._modules)
            model.behaviour = self._recipe.explorer
        return ActingCopy(model, planner=planner, device=self.device)

    # -- state -----------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Everything learned: weights, what parts keep in addition, moments of the optimisers."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for part in self.parts:
            tensors |= {f"part.{part.name}.{name}": value for name, value in part.state_dict().items()}
            for group, optimizer in self._optimizers[part.name].items():
                tensors |= optimizer_tensors(f"optimizer.{part.name}.{group}", optimizer)
        return tensors

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """The reverse of :meth:`tensors`.

        Raises:
            ValueError: they are of other sizes.
        """
        try:
            self.model.load_state_dict(_under("model.", tensors))
        except RuntimeError as error:  # torch names every tensor, in a line each
            raise ValueError(
                f"the weights of the run are not those of a model for {self.config.env}, whose spaces have changed "
                "since: bring back the environment as it was, or start a new run"
            ) from error
        for part in self.parts:
            part.load_state_dict(_under(f"part.{part.name}.", tensors))
            for group, optimizer in self._optimizers[part.name].items():
                restore_optimizer(f"optimizer.{part.name}.{group}", optimizer, tensors)
        self.updates = int(state["update"])
        if self._recorded is not None:
            self._recorded.forget()

    def begin_with(self, weights: Mapping[str, Tensor], *, levels: bool = True) -> None:
        """Take another model's weights before the first update; optimisers and schedules start anew.

        Args:
            weights: a state of an :class:`AgentNetworks`.
            levels: take the levels' too.

        Raises:
            ValueError: they are of other sizes.
        """
        own = self.model.state_dict()
        given = {k: v for k, v in weights.items() if levels or not k.startswith("levels.")}
        kept = {k: v for k, v in own.items() if not levels and k.startswith("levels.")}
        try:
            self.model.load_state_dict(given | kept)
        except RuntimeError as error:
            raise ValueError(f"the weights are those of a model of other sizes: {error}") from error
        for part in self.parts:
            part.updated(0)

    # -- updates ---------------------------------------------------------------------------------------------

    def _schedules(self, parts: list[Part]) -> Schedules:
        """Weights of loss terms and learning rates of this update."""
        options, done = self.config.optimizer, self.updates
        return Schedules(
            {part.name: dict(part.scales(done)) for part in parts},
            {
                part.name: {
                    name: options.rate(group.lr, done, self.config.updates)
                    for name, group in part.groups().items()
                }
                for part in parts
            },
        )

    def _update(self, batch: Batch, schedules: Schedules) -> Updated:
        """All that an update does on the device, in the same operations whatever the numbers are."""
        frozen = "world" in self.config.freeze
        with self._autocast(), torch.set_grad_enabled(not frozen):
            shared = Shared(batch, self.model.world.observe(batch))
        log: dict[str, Tensor] = {}
        for part in self.parts:
            if part.name in schedules.parts:
                found = self._learn(part, shared, schedules)
                log |= {f"{part.name}/{name}": value.detach() for name, value in found.items()}
        return Updated(log, shared.posterior)

    def _learn(self, part: Part, shared: Shared, schedules: Schedules) -> dict[str, Tensor]:
        """Losses of a part and, unless it is frozen, one step of its optimisers."""
        frozen = part.name in self.config.freeze
        with self._autocast(), torch.set_grad_enabled(not frozen):
            total, losses = weighted(part, schedules.scales[part.name], shared)
        log = {**losses.terms, **losses.metrics, "loss": total}
        if not frozen:
            log |= self._step(part, self._gradients(part, total), schedules.rates[part.name])
        return log

    def _gradients(self, part: Part, loss: Tensor) -> list[Tensor | None]:
        """Gradients for this part's weights alone: imagination also reaches the world model's."""
        weights = [weight for group in part.groups().values() for weight in group.parameters]
        return list(torch.autograd.grad(loss, weights, allow_unused=True))

    def _step(
        self, part: Part, gradients: list[Tensor | None], rates: Mapping[str, Number]
    ) -> dict[str, Tensor]:
        """Step the part's optimisers; norms of its gradients by group."""
        options, groups, rest = self.config.optimizer, part.groups(), iter(gradients)
        log = {}
        for name, group in groups.items():
            for weight in group.parameters:
                gradient = next(rest)
                weight.grad = torch.zeros_like(weight) if gradient is None else laid_out(gradient, weight)
            norm = nn.utils.clip_grad_norm_(group.parameters, options.clip)
            optimizer = self._optimizers[part.name][name]
            for settings in optimizer.param_groups:
                settings["lr"] = rates[name]
            optimizer.step()
            for weight in group.parameters:
                weight.grad = None
            if options.weight_decay:
                with torch.no_grad():
                    torch._foreach_mul_(list[Tensor](group.parameters), 1 - options.weight_decay)
            log["grad_norm" if len(groups) == 1 else f"grad_norm_{name}"] = norm
        return log

    def _optimizer(self, group: Group) -> torch.optim.Adam:
        return torch.optim.Adam(
            group.parameters,
            lr=group.lr,
            eps=self.config.optimizer.eps,
            fused=True,
            capturable=self.device.type == "cuda",
        )

    def _autocast(self) -> torch.autocast:
        """bf16 matrix products where asked for; weights, losses and optimisers stay in fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def weighted(part: Part, scales: Mapping[str, Number], shared: Shared) -> tuple[Tensor, Losses]:
    """The total of a part's losses, and the losses themselves.

    Raises:
        ValueError: a term has no scale, or a scale no term: something would be dropped from the loss.
    """
    losses = part.losses(shared)
    if losses.terms.keys() != scales.keys():
        raise ValueError(
            f"{part.name}: the losses are {sorted(losses.terms)}, but the scales are of {sorted(scales)}"
        )
    total = torch.stack([scales[name] * term.float() for name, term in losses.terms.items()]).sum()
    return total, losses


def laid_out(gradient: Tensor, weight: Tensor) -> Tensor:
    """A gradient in the order of memory that its weight has. Convolutions answer in another one, which fused optimisers
    refuse on a GPU; on a CPU they silently take each number for that of another weight."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
