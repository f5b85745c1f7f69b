"""Finished or running runs as agents."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from thick.agent import Agent
from thick.configuration import to_dict
from thick.envs import check, make
from thick.export import load_model
from thick.manifest import MANIFEST, EntryError
from thick.models.networks import AgentNetworks
from thick.runtimes.native import agents as native_agents
from thick.runtimes.native.library import NativeUnavailable
from thick.runtimes.torch import agents as torch_agents
from thick.spaces import space_to_json
from thick.training.checkpoint import load_checkpoint
from thick.training.config import TrainConfig, load_config

_log = logging.getLogger(__name__)


def load_agent(
    path: Path,
    *,
    env_id: str | None = None,
    env_options: dict[str, Any] | None = None,
    backend: str = "torch",
) -> tuple[Agent, str, dict[str, Any]]:
    """The agent of a run's latest checkpoint, or of a model-repository entry, and an environment for it.

    Args:
        path: folder of the run or entry.
        env_id: another environment than the one it was trained in, with the same spaces.
        env_options: of the environment; None takes those of training, and none for another environment.
        backend: ``native``, ``torch``, or ``auto``, which takes native kernels where they can run the model.

    Returns:
        The agent, the task, and the options of the environment.

    Raises:
        FileNotFoundError: the folder is neither.
        ValueError, ImportError: the environment cannot be made, or its spaces are not the agent's.
        NativeUnavailable: native kernels were asked for, and cannot run the model here.
    """
    agent, task, options = _agent(path, env_id, env_options, backend)
    check(task, **options)
    env = make(task, **options)
    for name in ("observation_space", "action_space"):
        wanted, found = space_to_json(getattr(agent, name)), space_to_json(getattr(env, name))
        if wanted != found:
            raise ValueError(
                f"{task}: its {name} is {getattr(env, name)}, and the model was trained for {getattr(agent, name)}"
            )
    env.close()
    return agent, task, options


def _agent(
    path: Path, env_id: str | None, env_options: dict[str, Any] | None, backend: str
) -> tuple[Agent, str, dict[str, Any]]:
    if (path / MANIFEST).is_file():
        agent = _of_backend(
            backend, lambda: native_agents.load_agent(path), lambda: torch_agents.load_agent(path)
        )
        assert agent.manifest is not None
        own = agent.manifest.configuration.get("env_options", {}) if env_id is None else {}
        return agent, env_id or agent.manifest.task, own if env_options is None else env_options
    config, model, _ = load_run(path, env_id=env_id, env_options=env_options)
    agent = _of_backend(
        backend,
        lambda: native_agents.native_agent(model, planner=config.planner),
        lambda: torch_agents.torch_agent(model, planner=config.planner),
    )
    return agent, config.env, config.env_options


def _of_backend(backend: str, native: Callable[[], Agent], torch: Callable[[], Agent]) -> Agent:
    if backend == "torch":
        return torch()
    try:
        return native()
    except EntryError:
        raise
    except (NativeUnavailable, ValueError) as error:  # torch has no such limits, or says what else is wrong
        if backend == "native":
            raise
        agent = torch()
        _log.warning("torch plans: %s", error)
        return agent


def load_networks(path: Path) -> AgentNetworks:
    """The networks of a run's latest checkpoint, or of a model-repository entry.

    Raises:
        FileNotFoundError: the folder is neither.
    """
    return load_model(path).model if (path / MANIFEST).is_file() else load_run(path)[1]


def load_run(
    path: Path, *, env_id: str | None = None, env_options: dict[str, Any] | None = None
) -> tuple[TrainConfig, AgentNetworks, dict[str, Any]]:
    """Configuration, model and state of a run's latest checkpoint; with another environment, if one is named.

    Raises:
        FileNotFoundError: the folder is no run.
    """
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(
            f"{path}: neither a run (config.yaml) nor a model-repository entry ({MANIFEST})"
        )
    config = load_config(path / "config.yaml")
    config = replace(
        config,
        env=env_id or config.env,
        env_options=env_options or ({} if env_id else config.env_options),
    )
    tensors, state = load_checkpoint(path / "checkpoints")
    env = make(config.env, **config.env_options)
    with torch.device("meta"):
        model = AgentNetworks(config.model, env.observation_space, env.action_space)
    weights = {
        key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")
    }
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: its weights are not those of a model for {config.env}, whose spaces must have changed since"
        ) from error
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
