"""Agents that run in ONNX Runtime, of an entry of a model repository; no torch anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thick.agent import Agent
from thick.entries import file_bytes, model_config
from thick.manifest import EntryError, Manifest, read_manifest
from thick.runtimes.onnx.model import OnnxModel
from thick.runtimes.parts import read_tensors


class GraphError(ValueError):
    """The graphs of an entry are missing or cannot run; the message is one line for people."""


def load_agent(entry: Path) -> Agent[OnnxModel]:
    """The agent of a model-repository entry ``NAME/VERSION``.

    Raises:
        thick.manifest.EntryError: the entry is missing, damaged or foreign.
        GraphError: it has no graphs, or they cannot run.
        ValueError: its planner defaults are wrong.
    """
    entry = Path(entry)
    manifest = read_manifest(entry)
    model = build_model(entry, manifest, read_graphs(entry, manifest), read_tensors(entry, manifest))
    observation_space, action_space = manifest.spaces()
    return Agent(
        model,
        observation_space=observation_space,
        action_space=action_space,
        manifest=manifest,
        planner=manifest.planner,
    )


def read_graphs(entry: Path, manifest: Manifest) -> dict[str, bytes]:
    """The files of an entry's graphs, by name, after checking size and SHA-256.

    Raises:
        GraphError: there are none, or a file is not the manifest's.
    """
    if not manifest.graphs:
        raise GraphError(
            f"{entry} has no ONNX graphs; `thick export {entry} --onnx` writes them (needs torch)"
        )
    try:
        return {name: file_bytes(entry, stored) for name, stored in manifest.graphs.items()}
    except EntryError as error:
        raise GraphError(f"{error}; or `thick export {entry} --onnx`") from error


def build_model(
    entry: Path, manifest: Manifest, graphs: Mapping[str, bytes], tensors: Mapping[str, np.ndarray]
) -> OnnxModel:
    """The model that an entry's graphs and weights make.

    Raises:
        GraphError: a graph cannot run.
    """
    try:
        return OnnxModel(graphs, tensors, model_config(manifest), manifest.spaces()[0])
    except EntryError:
        raise
    except Exception as error:  # ONNX Runtime has a class of its own for each way to fail
        said = (str(error).splitlines() or [type(error).__name__])[0].strip("'")
        raise GraphError(
            f"{entry}: its ONNX graphs cannot run: {said}; `thick export {entry} --onnx` writes them again"
        ) from error
