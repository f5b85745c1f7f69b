"""Agents that run in numpy and the native kernels, of an entry of a model repository; no torch anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from thick import conversion
from thick.agent import Agent
from thick.entries import guess, model_config, weight_bytes
from thick.manifest import EntryError, Manifest, read_manifest
from thick.runtimes.native.model import NativeModel


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


def read_tensors(entry: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """The weights of an entry under their present names; every number is finite.

    Raises:
        EntryError: the file is missing, not the manifest's, not safetensors, or holds NaN or infinity.
    """
    content, path = weight_bytes(entry, manifest), entry / manifest.weights.file
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise EntryError(
            f"{path}: not a safetensors file that numpy reads ({error}){guess(content)}; export again"
        ) from error
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise EntryError(f"{path}: tensor {name!r} holds numbers that are NaN or infinite; export again")
    return conversion.tensors(tensors) if manifest.format_version == 1 else tensors
