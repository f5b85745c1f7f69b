"""Model-repository entries: ``NAME/VERSION/{model.safetensors, manifest.json}``, written whole or not at all.

`thick export --onnx` adds graphs (:mod:`thick.runtimes.onnx.export`).

The manifest (:mod:`thick.manifest`) says what the weights are, how to plan with them, where they come from,
and the SHA-256 of the weight file. Importing this module and reading a manifest need no torch; loading a
model does. Nothing is unpickled: weights are safetensors, everything else is JSON. Damage of any kind ends in
an :class:`EntryError`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from thick import conversion
from thick.entries import check_place, guess, model_config, next_version, versions, weight_bytes
from thick.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    WEIGHTS,
    EntryError,
    Manifest,
    check_name,
    plain,
    read_manifest,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from thick.models.networks import AgentNetworks

__all__ = [
    "EntryError",
    "LoadedModel",
    "Manifest",
    "build_model",
    "check_place",
    "load_model",
    "manifest_text",
    "next_version",
    "read_manifest",
    "read_weights",
    "versions",
    "write_entry",
]


class LoadedModel(NamedTuple):
    """A model as read from an entry, in evaluation mode."""

    manifest: Manifest
    model: AgentNetworks


def read_weights(entry: Path, manifest: Manifest) -> dict[str, Tensor]:
    """Read the weights of an entry, after checking size and SHA-256; every number is finite.

    Weights of the first format come under their present names.

    Raises:
        EntryError: the file is missing, not the manifest's, not safetensors, or holds NaN or infinity.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    path = Path(entry) / manifest.weights.file
    content = weight_bytes(entry, manifest)
    try:
        # From the very bytes that were hashed: what is checked is what is used.
        tensors = safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise EntryError(f"{path}: not a safetensors file ({error}){guess(content)}; export again") from error
    _check_finite(tensors, str(path))
    return conversion.tensors(tensors) if manifest.format_version == 1 else tensors


def build_model(manifest: Manifest) -> AgentNetworks:
    """The network that a manifest describes, on the meta device: shapes without numbers.

    Building it costs no memory whatever the configuration says: a wrong one is refused, not allocated.

    Raises:
        EntryError: the configuration or the spaces describe no model of this release.
    """
    import torch

    from thick.models.networks import AgentNetworks

    config = model_config(manifest)
    observation_space, action_space = manifest.spaces()
    try:
        with torch.device("meta"):
            return AgentNetworks(config, observation_space, action_space)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise EntryError(
            f"{MANIFEST}: configuration.model describes no model: {error}; export the model again"
        ) from error


def load_model(entry: Path, *, device: str | torch.device = "cpu") -> LoadedModel:
    """Read an entry and rebuild its model, bit for bit the one that was written.

    Args:
        entry: the folder ``NAME/VERSION``.
        device: where the model goes.

    Raises:
        EntryError: see :func:`read_manifest`, :func:`read_weights`, :func:`build_model`; or the tensors are
            not those of the model that the configuration describes.
    """
    manifest = read_manifest(entry)
    tensors = read_weights(entry, manifest)
    model = build_model(manifest)
    _check_tensors(tensors, model.state_dict(), str(Path(entry) / manifest.weights.file))
    # Copies, because the tensors are slices of one buffer at whatever alignment the file happens to have.
    model.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
    return LoadedModel(manifest, model.eval().to(device))


def write_entry(
    repository: Path,
    *,
    name: str,
    version: str | None = None,
    kind: str,
    task: str,
    observation_space: Mapping[str, Any],
    action_space: Mapping[str, Any],
    configuration: Mapping[str, Any],
    planner: Mapping[str, Any],
    provenance: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    complete: Callable[[Path], object] | None = None,
) -> Path:
    """Write ``repository/name/version``; the folder appears complete and checked, or not at all.

    A version that exists is never changed: whoever serves or cites it keeps what they have.

    Args:
        repository: folder of the model repository, made if missing.
        version: None takes the next whole number.
        observation_space, action_space: JSON form.
        configuration: holds ``model``, the fields of ``ModelConfig``; tuples become lists.
        tensors: the model's ``state_dict()``.
        complete: is called with the folder before it appears; may add to it, or raise.

    Returns:
        The folder that was written.

    Raises:
        EntryError: a field cannot be written, a weight is not finite, the tensors are not those of the
            configured model, or the version exists.
    """
    import safetensors.torch

    repository = Path(repository)
    check_name(name, "model name")
    version = check_name(next_version(repository, name) if version is None else version, "model version")
    target = repository / name / version
    if target.exists():
        raise EntryError(
            f"{target} exists and versions are never changed; "
            f"leave the version out to write {next_version(repository, name)}, or remove the folder first"
        )
    stored = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    _check_finite(stored, f"{name}/{version}")
    content = safetensors.torch.save(stored, metadata={"format": "pt"})
    manifest = Manifest.from_json(
        {
            "format_version": FORMAT_VERSION,
            "name": name,
            "version": version,
            "kind": kind,
            "task": task,
            "observation_space": plain(observation_space, "observation_space"),
            "action_space": plain(action_space, "action_space"),
            "configuration": plain(configuration, "configuration"),
            "planner": plain(planner, "planner"),
            "provenance": plain(provenance, "provenance"),
            "weights": {
                "file": WEIGHTS,
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
            },
        },
        source=f"{name}/{version}",
    )
    _check_tensors(stored, build_model(manifest).state_dict(), f"{name}/{version}")
    new = [folder for folder in (target.parent, repository) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _appears_whole(target) as folder:
            _write(folder / WEIGHTS, content)
            _write(folder / MANIFEST, manifest_text(manifest))
            if complete is not None:
                complete(folder)
    except BaseException:
        with contextlib.suppress(OSError):  # another entry may have come there meanwhile
            for folder in new:
                folder.rmdir()
        raise
    return target


def manifest_text(manifest: Manifest) -> bytes:
    """A manifest as the file that it is kept in."""
    text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            raise EntryError(
                f"{what}: tensor {key!r} holds {bad} of {tensor.numel()} numbers that are NaN or infinite; "
                "the training diverged: export an earlier checkpoint"
            )


def _check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    advice = "the weights belong to another configuration: export the model again"
    for word, names in (
        ("missing", expected.keys() - found.keys()),
        ("unknown", found.keys() - expected.keys()),
    ):
        if names:
            shown = ", ".join(sorted(names)[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            raise EntryError(f"{what}: {word} tensors {shown}; {advice}")
    for key, tensor in expected.items():
        have, want = (f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for t in (found[key], tensor))
        if have != want:
            raise EntryError(f"{what}: tensor {key!r} is {have}, the configuration makes it {want}; {advice}")


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _appears_whole(target: Path) -> Iterator[Path]:
    """A hidden folder that becomes ``target`` in one rename once everything in it has reached the disk."""
    # Its name starts with a dot, which no version may: a repository never lists it, even after a crash.
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        folder.chmod(0o755)
        yield folder
        try:
            folder.rename(target)
        except OSError as error:
            raise EntryError(
                f"{target} could not be put in place: {error.strerror}; try another version"
            ) from error
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
