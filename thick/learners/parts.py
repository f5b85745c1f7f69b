"""Where parts of a learner meet: a part has losses, a reward is what a behaviour is taught to seek.

A learner is a list of parts, in the order in which they are updated (:mod:`thick.learners.recipes`). An update encodes
and filters its batch once, with gradient into the world model, and hands it to every part as a :class:`Shared`. Each
part answers with its loss terms; the learner weighs them, takes the gradient of their sum for the weights of this part
*alone*, and steps its optimisers. So a part is free to differentiate through the weights of another one (an actor
through the dynamics), and never changes them.

Symbols: B sequences, T steps of them, N states that imagination starts from, H imagined steps, A size of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from thick.models.batch import Batch
from thick.models.beliefs import State, Trajectory


@dataclass(frozen=True)
class Shared:
    """What the parts of one update share."""

    batch: Batch
    """the sequences, ``[B, T, ...]``"""
    trajectory: Trajectory
    """the batch as the world model filtered it, ``[B, T, ...]``, with gradient into the world model"""

    @cached_property
    def posterior(self) -> State:
        """Filtered states ``[B, T, ...]`` without gradient: what every part but the world model reads."""
        return State(*(part.detach() for part in self.trajectory.posterior))

    def start_indices(self, most: int | None = None) -> Tensor:
        """Filtered states from which the episode goes on: int64 ``[N]``, places in the flattened ``[B·T]``.

        Args:
            most: draw so many of them without repetition; None takes all.
        """
        alive = self.batch.is_terminal.flatten() == 0
        if fixed_shapes(alive.device):
            return dealt(alive, most)
        places = alive.nonzero().squeeze(-1)
        if most is None or len(places) <= most:
            return places
        return places[shuffled(len(places), places.device)[:most]]

    def at(self, index: Tensor) -> State:
        """Filtered states ``[N, ...]`` at places of the flattened batch, without gradient."""
        return State(*(part.flatten(0, 1)[index] for part in self.posterior))

    def coarse_logits(self, index: Tensor) -> Tensor:
        """Coarse prior ``[N, S, K]`` of the same states, without gradient; a C-RSSM has one."""
        logits = self.trajectory.coarse_logits
        assert logits is not None, "a flat RSSM has no coarse prior"
        return logits.detach().flatten(0, 1)[index]

    def starts(self, most: int | None = None) -> State:
        """Filtered states ``[N, ...]``, without gradient, from which the episode goes on."""
        return self.at(self.start_indices(most))


def fixed_shapes(device: torch.device) -> bool:
    """Whether shapes may not depend on values: what a GPU does is recorded, and brings no number back on its way."""
    return device.type == "cuda"


def shuffled(count: int, device: torch.device) -> Tensor:
    """The numbers below ``count`` in random order, int64 ``[count]``."""
    if fixed_shapes(device):  # randperm looks at its numbers
        return torch.rand(count, device=device).argsort()
    return torch.randperm(count, device=device)


def dealt(alive: Tensor, most: int | None = None) -> Tensor:
    """Places of what is true, in random order and as many as a shape says; where too few are, they come again.

    Args:
        alive: bool ``[n]``.
        most: how many; None asks for n. Of nothing that is true, places come at random.

    Returns:
        int64 ``[min(most, n)]``.
    """
    count = min(most or len(alive), len(alive))
    keys = torch.rand(len(alive), device=alive.device)
    order = torch.where(alive, keys, keys + 1).argsort()
    found = alive.sum()
    deal = torch.arange(count, device=alive.device)
    return order[torch.where(found > 0, deal % found.clamp_min(1), deal)]


def drawn(count: int, share: float, device: torch.device) -> Tensor | slice:
    """Which of ``count`` things (steps, rollouts) are in a share that is drawn without repetition: an index.

    A mean over them is one over all in expectation; at least one is drawn.
    """
    if share >= 1:
        return slice(None)
    return shuffled(count, device)[: max(1, round(share * count))]


class Losses(NamedTuple):
    """What a part says of a batch."""

    terms: dict[str, Tensor]
    """scalars with gradient and without weights; their names are those of the part's scales"""
    metrics: dict[str, Tensor]
    """scalars for the log, without gradient"""


class Group(NamedTuple):
    """Weights that share an optimiser: one learning rate, gradients clipped by their common norm."""

    parameters: list[nn.Parameter]
    lr: float


class Part(Protocol):
    """What is learned on its own: a world model, a level of the hierarchy, an ensemble, an actor-critic, …"""

    name: str
    """of its losses in the log and of its optimisers in a checkpoint; one part of a learner has it"""
    start: int
    """first update that trains it"""

    def groups(self) -> dict[str, Group]:
        """All its weights, each in one group, by the groups' names. Targets are not among them."""

    def scales(self, update: int) -> Mapping[str, float]:
        """The weight of each term at an update; the learner refuses terms and scales whose names differ."""

    def losses(self, shared: Shared) -> Losses:
        """Loss terms and metrics. The terms of one group must not have gradient into the weights of another one
        of this part: the sum of all terms is differentiated once."""

    def updated(self, update: int) -> None:
        """Called after each step of its optimisers with the number of updates before it (targets, statistics),
        and with 0 when a run begins with the weights of another."""

    def state_dict(self) -> dict[str, Any]:
        """What a run must keep of it that the model does not export: targets, statistics, networks that serve
        training alone (an ensemble). ``nn.Module`` has it; networks of the model are not its submodules."""

    def load_state_dict(self, tensors: Mapping[str, Any], /) -> Any:
        """The reverse of :meth:`state_dict`."""


class Reward(Protocol):
    """What a behaviour is taught to seek, computed in imagination."""

    def __call__(self, states: State, actions: Tensor) -> Tensor:
        """Rewards of an imagined rollout.

        Args:
            states: ``[H+1, N, ...]``, the first are the starts.
            actions: ``[H, N, A]``, ``actions[t]`` leads from ``states[t]`` to ``states[t+1]``.

        Returns:
            ``[H, N]`` in fp32: entry t is received on entering ``states[t+1]``, and the action at t is credited with
            it. With gradient into states and actions, for actors that learn through the dynamics.
        """


class Stateless:
    """What most parts have in common: trained from the first update on, and nothing to keep apart from the model."""

    start = 0

    def updated(self, update: int) -> None:
        """Nothing follows an update."""

    def state_dict(self) -> dict[str, Any]:
        """All its weights are the model's."""
        return {}

    def load_state_dict(self, tensors: Mapping[str, Any], /) -> None:
        """Nothing to load."""
