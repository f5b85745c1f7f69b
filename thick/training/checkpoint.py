"""The complete state of a run in two files: tensors as safetensors, everything else as JSON. Nothing unpickles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from thick.files import write_atomically

_TENSORS, _STATE = "state.safetensors", "state.json"


def save_checkpoint(directory: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Write ``directory/STEP/``, then point ``directory/latest`` at it, then drop older ones.

    A kill at any moment leaves the previous checkpoint whole.
    """
    name = f"{state['update']:09d}"
    folder = directory / name
    packed = save_tensors({key: value.detach().contiguous().cpu().clone() for key, value in tensors.items()})
    write_atomically(folder / _TENSORS, packed)
    write_atomically(folder / _STATE, json.dumps(state).encode())
    write_atomically(directory / "latest", name.encode())
    for other in directory.iterdir():
        if other.is_dir() and other.name != name:
            for file in other.iterdir():
                file.unlink()
            other.rmdir()
    return folder


def load_checkpoint(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of the latest checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    pointer = directory / "latest"
    if not pointer.is_file():
        raise FileNotFoundError(
            f"no checkpoint in {directory}: was the run ever started? ('thick train' without --resume)"
        )
    folder = directory / pointer.read_text().strip()
    state = json.loads((folder / _STATE).read_text())
    return load_tensors((folder / _TENSORS).read_bytes()), state


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
