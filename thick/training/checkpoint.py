"""The complete state of a run in two files: tensors as safetensors, everything else as JSON. Nothing unpickles.

A checkpoint is a folder ``UPDATE/`` whose ``state.json`` is written last and knows size and checksum of the tensors, so
that one that was cut short is recognised. The two newest are kept: there is one to go back to.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from thick.files import write_atomically

_TENSORS, _STATE, _LATEST = "state.safetensors", "state.json", "latest"
_NAME = re.compile(r"[0-9]{9,}")
KEPT = 2
"""checkpoints of a run that are kept"""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: cut short, damaged, or not finite."""


class Checkpoint(NamedTuple):
    """One checkpoint that was read."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    path: Path
    passed_over: list[str]
    """a sentence for each newer one that cannot be used"""


def save_checkpoint(directory: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Write ``directory/UPDATE/``, then point ``directory/latest`` at it, then drop all but the one before.

    A kill at any moment leaves the previous checkpoint whole.

    Raises:
        CheckpointError: a tensor is not finite; nothing was written.
        OSError: it cannot be written (the disk is full, say); the previous checkpoint is as it was.
    """
    bad = not_finite_tensors(tensors)
    if bad:
        raise CheckpointError(f"not saved, since {_some(bad)} not finite")
    name = f"{state['update']:09d}"
    folder = directory / name
    packed = save_tensors({key: value.detach().contiguous().cpu().clone() for key, value in tensors.items()})
    written = {"bytes": len(packed), "crc32": zlib.crc32(packed)}
    try:
        (folder / _STATE).unlink(missing_ok=True)  # the same update may be saved twice
        write_atomically(folder / _TENSORS, packed)
        write_atomically(folder / _STATE, json.dumps({**state, "tensors": written}).encode())
        write_atomically(directory / _LATEST, name.encode())
    except OSError:
        if not (directory / _LATEST).is_file() or (directory / _LATEST).read_text() != name:
            _remove(folder)  # half of one only takes room
        raise
    whole = [path for path in _folders(directory) if (path / _STATE).is_file() and path.name <= name]
    for path in _folders(directory):
        if path not in whole[:KEPT]:
            _remove(path)
    return folder


def load_checkpoint(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of the latest checkpoint.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged or not finite; the message names the last one that can be used.
    """
    found = last_usable_checkpoint(directory)
    if found.passed_over:
        raise CheckpointError(f"{found.passed_over[0]}; the last checkpoint that can be used is {found.path}")
    return found.tensors, found.state


def last_usable_checkpoint(directory: Path) -> Checkpoint:
    """The newest checkpoint that is whole and finite, and what is wrong with newer ones.

    Raises:
        FileNotFoundError: no checkpoint was ever finished there.
        CheckpointError: there are some, none of which can be used.
    """
    if (latest := latest_checkpoint(directory)) is None:
        raise FileNotFoundError(f"no checkpoint in {directory}: the run stopped before its first one")
    passed_over: list[str] = []
    for folder in [latest, *(path for path in _folders(directory) if path.name < latest.name)]:
        try:
            tensors, state = _read(folder)
        except CheckpointError as error:
            passed_over.append(str(error))
            continue
        return Checkpoint(tensors, state, folder, passed_over)
    raise CheckpointError("; ".join(passed_over))


def has_checkpoint(directory: Path) -> bool:
    """Whether a checkpoint was ever finished there."""
    return latest_checkpoint(directory) is not None


def latest_checkpoint(directory: Path) -> Path | None:
    """Folder of the checkpoint that was finished last; None before there is one.

    Where ``latest`` is lost or empty (a kill before it was first written, a copy that was cut short), the newest one.
    """
    latest = directory / _LATEST
    if latest.is_file() and (name := latest.read_text().strip()):
        return directory / name
    return next((path for path in _folders(directory) if (path / _STATE).is_file()), None)


def not_finite_tensors(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    floating = {name: value for name, value in tensors.items() if value.is_floating_point()}
    if not floating:
        return []
    finite = torch.stack([value.detach().isfinite().all() for value in floating.values()]).tolist()
    return [name for name, fine in zip(floating, finite, strict=True) if not fine]


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        state = json.loads((folder / _STATE).read_text())
        packed = (folder / _TENSORS).read_bytes()
        expected = state.pop("tensors", None)
        if expected is not None and expected != {"bytes": len(packed), "crc32": zlib.crc32(packed)}:
            raise CheckpointError(f"{folder} was cut short or damaged ({_TENSORS} is not what was written)")
        tensors = load_tensors(packed)
    except (FileNotFoundError, ValueError, AttributeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder} was cut short or damaged ({error})") from error
    bad = not_finite_tensors(tensors)
    if bad:
        raise CheckpointError(f"{folder} is no use: {_some(bad)} not finite")
    return tensors, state


def remove_checkpoints(directory: Path) -> None:
    """Remove all checkpoints there, and nothing else: the folder itself may be a link to another disk, and stays."""
    if directory.is_dir():
        (directory / _LATEST).unlink(missing_ok=True)
        for folder in _folders(directory):
            _remove(folder)


def _folders(directory: Path) -> list[Path]:
    """Folders of checkpoints, newest first; none where the directory is not there."""
    found = (path for path in directory.glob("*") if _NAME.fullmatch(path.name) and path.is_dir())
    return sorted(found, reverse=True)


def _remove(folder: Path) -> None:
    """Remove a checkpoint; what somebody else has put into its folder stays."""
    for file in (folder / _STATE, folder / _TENSORS, *folder.glob(".state.*.tmp")):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} other tensors are" if len(names) > 1 else " is"
    return f"{names[0]}{more}"


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments and step counts by position of the parameter."""
    return {
        f"{prefix}.{index}.{name}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The reverse of :func:`optimizer_tensors`; learning rates stay as configured."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix + "."):
            index, name = key[len(prefix) + 1 :].split(".", 1)
            state.setdefault(int(index), {})[name] = value
    content = optimizer.state_dict()
    content["state"] = state
    optimizer.load_state_dict(content)


def rng_state(rng: np.random.Generator) -> dict[str, Any]:
    """State of a numpy generator as JSON."""
    return json.loads(json.dumps(rng.bit_generator.state))  # type: ignore[no-any-return]


def restore_rng(rng: np.random.Generator, state: dict[str, Any]) -> None:
    """The reverse of :func:`rng_state`."""
    rng.bit_generator.state = state
