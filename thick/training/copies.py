"""The copy of the networks that acts while the others learn."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from thick.agent import Agent
from thick.models.networks import AgentNetworks
from thick.runtimes.native import library
from thick.runtimes.native.agents import native_agent
from thick.runtimes.native.library import NativeUnavailable
from thick.runtimes.native.model import NativeModel
from thick.runtimes.torch.agents import torch_agent
from thick.runtimes.torch.model import FrozenModel


def missing_kernels() -> str | None:
    """Why no model at all can run in native kernels here; None where they can.

    Raises:
        ValueError: ``THICK_INSTRUCTIONS`` is wrong.
    """
    try:
        library.instructions()
    except NativeUnavailable as error:
        return str(error)
    return None


def fastest_agent(
    networks: AgentNetworks, *, planner: Mapping[str, Any], device: torch.device | str = "cpu"
) -> Agent:
    """An agent with a copy of the networks' weights: on a CPU in native kernels where they can run the model, else in
    torch.

    Args:
        planner: its defaults.
        device: where the networks are.

    Raises:
        ValueError: a default is wrong, or ``THICK_INSTRUCTIONS``.
    """
    if torch.device(device).type == "cpu" and missing_kernels() is None:
        try:
            agent = native_agent(networks, planner=planner)
        except (NativeUnavailable, ValueError):  # torch has no such limits, or says what else is wrong
            pass
        else:
            library.use_threads(torch.get_num_threads())
            return agent
    return torch_agent(networks, planner=planner, device=device)


class ActingCopy:
    """Networks that act, and follow those that learn when they are told to.

    Args:
        learning: whose weights are copied; they may be of several modules that learn.
        planner: defaults of the agent.
        device: where they are.

    Raises:
        ValueError: a default is wrong.
    """

    def __init__(
        self, learning: AgentNetworks, *, planner: Mapping[str, Any], device: torch.device | str = "cpu"
    ) -> None:
        self._learning, self._planner, self._device = learning, planner, device
        self._networks = copy.deepcopy(learning).requires_grad_(False)
        self.agent: Agent = fastest_agent(self._networks, planner=planner, device=device)
        self.missing = missing_kernels() if torch.device(device).type == "cpu" else None
        """why torch acts on a CPU that has no native kernels; None where it has"""

    @property
    def runtime(self) -> str:
        """What computes: native or torch."""
        return "native" if isinstance(self.agent.model, NativeModel) else "torch"

    def renew(self) -> None:
        """Take the weights as they are now."""
        self.take(self._learning.state_dict())

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Take others.

        Args:
            weights: of :meth:`tensors`.

        Raises:
            ValueError: they belong to another configuration.
        """
        try:
            self._networks.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"the weights are those of another model: {error}") from error
        if isinstance(self.agent.model, NativeModel):
            self.agent = fastest_agent(self._networks, planner=self._planner, device=self._device)
        else:  # in place: what was traced or recorded for them stays good
            with torch.no_grad():
                self.agent.model.take(FrozenModel(self._networks, device=self._device, own=False))

    def tensors(self) -> dict[str, Tensor]:
        """The weights by name, not copied."""
        weights: dict[str, Tensor] = self._networks.state_dict()
        return weights
