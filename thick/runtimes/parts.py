"""What runtimes without torch share: tensors of an entry, layers, beliefs, arrays of observations, resizing."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from thick import conversion
from thick.entries import guess, weight_bytes
from thick.manifest import EntryError, Manifest
from thick.models.beliefs import Belief

if TYPE_CHECKING:
    import gymnasium

SINGLE = "observation"
"""the key of an observation that is a single array"""


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


def layers(tensors: Container[str], name: str) -> list[str]:
    """Names of the hidden layers of an MLP, ``name.dense0 …``, and of its linear output where it has one."""
    count = 0
    while f"{name}.dense{count}.weight" in tensors:
        count += 1
    hidden = [f"{name}.dense{index}" for index in range(count)]
    return [*hidden, f"{name}.out"] if f"{name}.out.weight" in tensors else hidden


def entry_name(tensors: Mapping[str, Any], name: str, key: str) -> str:
    """Name of the module of an observation's entry, as :mod:`thick.models.encoders` names it."""
    plain = key.replace("%", "%25").replace(".", "%2E")
    there = any(tensor.startswith(f"{name}.{plain}.") for tensor in tensors)
    return f"{name}.{plain}" if plain and there else f"{name}.%{plain}"


def entries(space: gymnasium.Space) -> dict[str, Any]:
    """The arrays of an observation space by name, in the order of their keys."""
    return dict(sorted(getattr(space, "spaces", {SINGLE: space}).items()))


def unseen(batch: int, *, stoch: int, classes: int, deter: int, context: int) -> Belief:
    """The belief before anything was seen: z is -1, which stands for the zero vector."""
    return Belief.of(
        np.full((batch, stoch), -1, np.int64),
        np.zeros((batch, stoch, classes), np.float32),
        np.zeros((batch, deter), np.float32),
        np.zeros((batch, context), np.float32),
        np.zeros((batch, context), np.float32),
    )


def begun(belief: Belief, action: np.ndarray, is_first: np.ndarray) -> tuple[Belief, np.ndarray]:
    """Belief and action ``[B, A]`` that a step starts from: zero where ``is_first`` ``[B]``."""
    if not is_first.any():
        return belief, action
    if is_first.all():
        return belief._replace(
            stoch=np.full(belief.stoch.shape, -1, np.int64),
            deter=np.zeros(belief.deter.shape, np.float32),
        ).with_context(np.zeros(belief.context.shape, np.float32)), np.zeros(action.shape, np.float32)
    first, zero = is_first[:, None], np.float32(0)
    start = belief._replace(
        stoch=np.where(first, -1, belief.stoch),
        deter=np.where(first, zero, belief.deter),
    ).with_context(np.where(first, zero, belief.context))
    return start, np.where(first, zero, action)


def one_hots(stoch: np.ndarray, classes: int) -> np.ndarray:
    """Classes ``[*B, S]`` as flat one-hots ``[*B, S·K]``; zero where the class is -1."""
    flat = (*stoch.shape[:-1], stoch.shape[-1] * classes)
    return (stoch[..., None] == np.arange(classes)).astype(np.float32).reshape(flat)


def areas(source: int, target: int) -> np.ndarray:
    """Means over areas, ``[target, source]``."""
    table = np.zeros((target, source), np.float32)
    for index in range(target):
        begin, end = index * source // target, -(-(index + 1) * source // target)
        table[index, begin:end] = 1 / (end - begin)
    return table


def between(source: int, target: int) -> np.ndarray:
    """Between the two nearest pixels, ``[target, source]``."""
    table = np.zeros((target, source), np.float32)
    for index in range(target):
        place = max((index + 0.5) * source / target - 0.5, 0.0)
        first = min(int(place), source - 1)
        part = place - first
        table[index, first] += 1 - part
        table[index, min(first + 1, source - 1)] += part
    return table
