"""Finished or running runs as agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from thick.agent import Agent
from thick.configuration import to_dict
from thick.envs import make
from thick.export import load_model
from thick.manifest import MANIFEST
from thick.models.networks import AgentNetworks
from thick.runtimes.torch import agents
from thick.training.checkpoint import load_checkpoint
from thick.training.config import TrainConfig, load_config


def load_agent(path: Path) -> tuple[Agent, str, dict[str, Any]]:
    """The agent of a run's latest checkpoint, or of a model-repository entry.

    Returns:
        The agent, its task, and the options of the environment.

    Raises:
        FileNotFoundError: the folder is neither.
    """
    if (path / MANIFEST).is_file():
        agent = agents.load_agent(path)
        assert agent.manifest is not None
        return agent, agent.manifest.task, agent.manifest.configuration.get("env_options", {})
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(
            f"{path}: neither a run (config.yaml) nor a model-repository entry ({MANIFEST})"
        )
    config, model, _ = load_run(path)
    return agents.torch_agent(model, planner=config.planner), config.env, config.env_options


def load_run(path: Path) -> tuple[TrainConfig, AgentNetworks, dict[str, Any]]:
    """Configuration, model and state of a run's latest checkpoint.

    Raises:
        FileNotFoundError: the folder is no run.
    """
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(
            f"{path}: neither a run (config.yaml) nor a model-repository entry ({MANIFEST})"
        )
    config = load_config(path / "config.yaml")
    tensors, state = load_checkpoint(path / "checkpoints")
    env = make(config.env, **config.env_options)
    with torch.device("meta"):
        model = AgentNetworks(config.model, env.observation_space, env.action_space)
    weights = {
        key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")
    }
    model.load_state_dict(weights, assign=True)
    return config, model.eval(), state


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights of a run's latest checkpoint or of a model-repository entry, and where they come from as JSON."""
    if (path / MANIFEST).is_file():
        manifest, model = load_model(path)
        return model.state_dict(), {"entry": f"{manifest.name}/{manifest.version}", **manifest.provenance}
    config, model, state = load_run(path)
    return model.state_dict(), {
        "run": config.name,
        "updates": state["update"],
        "configuration": to_dict(config),
    }
