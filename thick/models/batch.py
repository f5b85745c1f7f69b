"""A batch of experience as models read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


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
    return Batch(observation, **floats)
