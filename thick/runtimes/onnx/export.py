"""Writing the graphs of a model-repository entry, each verified against torch before anything is kept.

Needs the extra `train`: torch, ``onnx``, ONNX Runtime, and the environment of the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thick.entries import model_config, weight_bytes
from thick.envs import make
from thick.envs.actions import ActionCodec
from thick.export import load_model, manifest_text
from thick.files import write_atomically
from thick.manifest import GRAPH, MANIFEST, EntryError, Manifest, StoredFile, VerificationError, read_manifest
from thick.runtimes.onnx.agents import GraphError, build_model
from thick.runtimes.onnx.graph import places
from thick.runtimes.onnx.steps import Steps
from thick.runtimes.onnx.verify import Experience, stacked, verify
from thick.runtimes.parts import read_tensors
from thick.runtimes.torch.model import FrozenModel
from thick.spaces import space_to_json

STEPS = 48
"""of the environment that the graphs are verified on"""


def add_graphs(entry: Path, experience: Experience | None = None) -> dict[str, StoredFile]:
    """Write the graphs of an entry next to its weights, and name them in its manifest; all of them, or none.

    The weights stay as they are, and so does what was written before if anything is wrong.

    Args:
        entry: a folder ``NAME/VERSION``.
        experience: of its environment, to verify the graphs on; None plays some random steps.

    Returns:
        The files, by the names of the graphs.

    Raises:
        EntryError: the entry is damaged.
        VerificationError: a graph gives something else than torch.
        thick.envs.MissingPackageError: the environment cannot be made here.
    """
    manifest = read_manifest(entry)
    graphs = write_graphs(entry, manifest)
    try:
        found = build_model(entry, manifest, graphs, read_tensors(entry, manifest))
    except GraphError as error:
        raise EntryError(str(error)) from error
    wanted = FrozenModel(load_model(entry).model, precision="fp32")
    try:
        verify(found, wanted, experience or played(manifest), manifest.spaces()[0])
    except EntryError as error:
        raise VerificationError(f"{entry}: {error}; nothing was written") from error
    return keep_graphs(entry, manifest, graphs)


def write_graphs(entry: Path, manifest: Manifest) -> dict[str, bytes]:
    """The graphs of an entry as files, by name.

    Raises:
        EntryError: the entry is damaged.
    """
    config, (observation_space, action_space) = model_config(manifest), manifest.spaces()
    actions = ActionCodec(action_space)
    tensors = places(weight_bytes(entry, manifest), format_version=manifest.format_version)
    steps = Steps(
        config, observation_space, action=actions.size, continuous=not actions.discrete, tensors=tensors
    )
    try:
        return steps.write()
    except KeyError as error:
        raise EntryError(
            f"{entry}: no weights {error} for what the configuration says; export the model again"
        ) from error


def played(manifest: Manifest, steps: int = STEPS) -> Experience:
    """Random steps in the environment of a model, from its first observation on.

    Raises:
        EntryError: the environment shows something else than the model knows.
        thick.envs.MissingPackageError: it cannot be made here.
    """
    codec = ActionCodec(manifest.spaces()[1])
    env = make(manifest.task, seed=0, **manifest.configuration.get("env_options", {}))
    try:
        # As manifests write them: an environment may have a MultiBinary where a manifest has the Box of its values.
        shown = space_to_json(env.observation_space), space_to_json(env.action_space)
        known = manifest.observation_space, manifest.action_space
        if shown != tuple(map(space_to_json, known)):
            raise EntryError(f"{manifest.task}: its spaces are not those of the model; export the run again")
        env.action_space.seed(0)
        seen, done = [env.reset(seed=0)[0]], [np.zeros((1, codec.size), np.float32)]
        over = False
        while len(seen) < steps and not over:
            action = env.action_space.sample()
            observation, _, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            seen.append(observation)
            done.append(codec.encode([action]))
    finally:
        env.close()
    return Experience(stacked(seen), np.concatenate(done))


def keep_graphs(entry: Path, manifest: Manifest, graphs: Mapping[str, bytes]) -> dict[str, StoredFile]:
    """Put graphs in place and name them in the manifest. While they are written it names none: the entry is whole at
    every moment.

    Raises:
        EntryError: they cannot be written.
    """
    files = {
        name: StoredFile(
            file=f"{name}{GRAPH}", sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)
        )
        for name, content in graphs.items()
    }
    if manifest.graphs == files and all((entry / each.file).is_file() for each in files.values()):
        return files
    try:
        if manifest.graphs:
            write_atomically(entry / MANIFEST, manifest_text(dataclasses.replace(manifest, graphs={})))
        for name, content in graphs.items():
            write_atomically(entry / files[name].file, content)
        write_atomically(entry / MANIFEST, manifest_text(dataclasses.replace(manifest, graphs=files)))
    except OSError as error:
        for each in files.values():
            (entry / each.file).unlink(missing_ok=True)
        raise EntryError(f"{entry}: the graphs cannot be written: {error.strerror}") from error
    for name in manifest.graphs.keys() - files.keys():
        (entry / manifest.graphs[name].file).unlink(missing_ok=True)
    return files
