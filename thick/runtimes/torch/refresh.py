"""Frozen models take other weights in place, so that what was traced for them stays good.

A trace holds the frozen tensors themselves, not copies: writing into them changes what it computes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from thick.runtimes.torch.gpu.recorded import Recordings
from thick.runtimes.torch.graphs import Captured
from thick.runtimes.torch.traced import Traced

_KEPT = (Traced, Captured, Recordings)
"""hold no weights of their own, only what reads them"""


def tensors_of(frozen: Any) -> dict[str, Tensor]:
    """All tensors that a frozen model computes with, by the path of attributes that leads to each; not copies.

    Args:
        frozen: a :class:`~thick.runtimes.torch.model.FrozenModel` or a part of one.
    """
    found: dict[str, Tensor] = {}
    _walk(frozen, "", found, set())
    return found


@torch.no_grad()
def take_weights(frozen: Any, weights: dict[str, Tensor]) -> None:
    """Write other weights into a frozen model.

    Args:
        frozen: what takes them.
        weights: of :func:`tensors_of` of a frozen model with the same configuration.

    Raises:
        ValueError: they belong to another configuration.
    """
    own = tensors_of(frozen)
    shapes, given = ({name: tuple(x.shape) for name, x in found.items()} for found in (own, weights))
    if shapes != given:
        differ = sorted(name for name in shapes.keys() | given.keys() if shapes.get(name) != given.get(name))
        raise ValueError(f"the weights are those of another model: {', '.join(differ[:3])} differ")
    for name, tensor in own.items():
        tensor.copy_(weights[name])


def _walk(value: Any, path: str, found: dict[str, Tensor], seen: set[int]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        found[path.lstrip(".")] = value
    elif isinstance(value, nn.Module):
        for name, tensor in (*value.named_parameters(), *value.named_buffers()):
            _walk(tensor, f"{path}.{name}", found, seen)
    elif isinstance(value, dict):
        for name, item in value.items():
            _walk(item, f"{path}.{name}", found, seen)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _walk(item, f"{path}.{index}", found, seen)
    elif type(value).__module__.startswith("thick.runtimes.") and not isinstance(value, _KEPT):
        _walk(vars(value), path, found, seen)
