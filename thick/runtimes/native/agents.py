"""Agents that run in numpy and the native kernels: of an entry of a model repository, or of networks in memory.

No torch is imported; where networks are given, whoever made them has done so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thick.agent import Agent
from thick.entries import model_config
from thick.manifest import EntryError, read_manifest
from thick.runtimes.native.model import NativeModel
from thick.runtimes.parts import read_tensors

if TYPE_CHECKING:
    from thick.models.networks import AgentNetworks


def native_model(networks: AgentNetworks) -> NativeModel:
    """Networks in memory, of whose weights it takes a copy.

    Raises:
        thick.runtimes.native.library.NativeUnavailable: the kernels cannot run here.
        ValueError: a size is beyond what the kernels can do.
    """
    tensors = {name: weight.detach().float().numpy() for name, weight in networks.state_dict().items()}
    return NativeModel(tensors, networks.config, networks.observation_space, networks.action_space)


def native_agent(networks: AgentNetworks, *, planner: Mapping[str, Any] | None = None) -> Agent[NativeModel]:
    """An agent of networks in memory.

    Args:
        planner: see :class:`thick.agent.Agent`.

    Raises:
        thick.runtimes.native.library.NativeUnavailable, ValueError: as ``native_model``.
    """
    return Agent(
        native_model(networks),
        observation_space=networks.observation_space,
        action_space=networks.action_space,
        planner=planner,
    )


def load_agent(entry: Path) -> Agent[NativeModel]:
    """The agent of a model-repository entry ``NAME/VERSION``.

    Raises:
        thick.manifest.EntryError: the entry is missing, damaged or foreign.
        thick.runtimes.native.library.NativeUnavailable: the kernels cannot run here.
        ValueError: its planner defaults are wrong, or a size is beyond what the kernels can do.
    """
    manifest = read_manifest(Path(entry))
    observation_space, action_space = manifest.spaces()
    tensors, config = read_tensors(Path(entry), manifest), model_config(manifest)
    try:
        model = NativeModel(tensors, config, observation_space, action_space)
    except (KeyError, IndexError) as error:
        raise EntryError(
            f"{entry}: no weights {error} for what the configuration says; export the model again"
        ) from error
    return Agent(
        model,
        observation_space=observation_space,
        action_space=action_space,
        manifest=manifest,
        planner=manifest.planner,
    )
