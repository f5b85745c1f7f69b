"""Agents that run in torch: of a model in memory, or of an entry of a model repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from thick.agent import Agent
from thick.export import load_model
from thick.manifest import Manifest
from thick.models.networks import AgentNetworks
from thick.runtimes.torch.model import FrozenModel


def torch_agent(
    model: AgentNetworks,
    *,
    manifest: Manifest | None = None,
    planner: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
    precision: str = "auto",
) -> Agent[FrozenModel]:
    """An agent of a trained model, of whose weights it takes a copy.

    Args:
        manifest, planner: see :class:`thick.agent.Agent`.
        device, precision: see :class:`thick.runtimes.torch.model.FrozenModel`.
    """
    return Agent(
        FrozenModel(model, precision=precision, device=device),
        observation_space=model.observation_space,
        action_space=model.action_space,
        manifest=manifest,
        planner=planner,
    )


def load_agent(entry: Path, *, device: str = "cpu", precision: str = "auto") -> Agent[FrozenModel]:
    """The agent of a model-repository entry ``NAME/VERSION``.

    Raises:
        thick.manifest.EntryError: the entry is missing, damaged or foreign.
        ValueError: its planner defaults are wrong.
    """
    manifest, model = load_model(Path(entry))
    return torch_agent(model, manifest=manifest, planner=manifest.planner, device=device, precision=precision)
