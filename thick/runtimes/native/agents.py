"""Agents that run in numpy and the native kernels, of an entry of a model repository; no torch anywhere."""

from __future__ import annotations

from pathlib import Path

from thick.agent import Agent
from thick.entries import model_config
from thick.manifest import EntryError, read_manifest
from thick.runtimes.native.model import NativeModel
from thick.runtimes.parts import read_tensors


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
