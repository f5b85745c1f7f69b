"""A batch of experience as models read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Start(NamedTuple):
    """States that sequences go on from; ``[B, ...]``."""

    stoch: Tensor
    """[B, S] int64, classes of z"""
    memory: Tensor
    """[B, C + H], context and h"""


class Batch(NamedTuple):
    """A batch of sequences; all ``[B, T, ...]``."""

    observation: dict[str, Tensor]
    """arrays by entry (a lone array is called "observation")"""
    action: Tensor
    """[B, T, A] the action that led to each observation (one-hot if discrete), zero where is_first"""
    reward: Tensor
    """[B, T] the reward received with each observation"""
    is_first: Tensor
    """[B, T] the observation is the first of its episode"""
    is_terminal: Tensor
    """[B, T] the episode ended for good with this observation (not by a time limit)"""
    start: Start | None = None
    """where the sequences go on from whose first step is no is_first; None: all begin"""


def batch_from_arrays(arrays: Mapping[str, Any], device: torch.device | str = "cpu") -> Batch:
    """A :class:`Batch` from numpy arrays as the replay gives them."""
    observation = {
        key.removeprefix("observation/"): torch.as_tensor(value, device=device)
        for key, value in arrays.items()
        if key.startswith("observation/")
    }
    floats = {
        key: torch.as_tensor(arrays[key], dtype=torch.float32, device=device)
        for key in ("action", "reward", "is_first", "is_terminal")
    }
    start = None
    if "start/stoch" in arrays:
        start = Start(*(torch.as_tensor(arrays[f"start/{name}"], device=device) for name in Start._fields))
    return Batch(observation, **floats, start=start)
