"""Tiny models and batches that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from thick.models.batch import Batch
from thick.models.config import HighLevelConfig, ModelConfig
from thick.models.encoders import SINGLE, entries
from thick.models.world_model import WorldModel, action_size

IMAGE = Box(0, 255, (64, 64, 3), np.uint8)
GRID = Box(np.uint8(0), np.broadcast_to(np.array([10, 5, 3], np.uint8), (5, 6, 3)), (5, 6, 3), np.uint8)
VECTOR = Box(-np.inf, np.inf, (7,), np.float32)
MATRIX = Box(-1.0, 1.0, (2, 3), np.float32)
MIXED = Dict({"camera": IMAGE, "board": GRID, "joints": VECTOR})
SPACES = {"image": IMAGE, "grid": GRID, "vector": VECTOR, "matrix": MATRIX, "dict": MIXED}

DISCRETE = Discrete(4)
CONTINUOUS = Box(-1.0, 1.0, (2,), np.float32)
ACTIONS = {"discrete": DISCRETE, "continuous": CONTINUOUS}


def tiny(**changes: Any) -> ModelConfig:
    """A configuration of a few thousand weights."""
    sizes: dict[str, Any] = {
        "stoch": 4,
        "classes": 5,
        "deter": 12,
        "hidden": 16,
        "context": 6,
        "cnn_depth": 2,
        "mlp_layers": 2,
        "mlp_units": 24,
        "head_layers": 1,
        "head_units": 16,
        "high": HighLevelConfig(actions=3, hidden=24, head_units=16),
    }
    return ModelConfig(**{**sizes, **changes})


def model(
    observation: gymnasium.Space = GRID, action: gymnasium.Space = DISCRETE, seed: int = 0, **changes: Any
) -> WorldModel:
    """A tiny world model with reproducible weights."""
    torch.manual_seed(seed)
    return WorldModel(tiny(**changes), observation, action)


def observations(space: gymnasium.Space, *leading: int, seed: int = 0) -> dict[str, Tensor]:
    """Random observations by entry."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, Tensor] = {}
    for name, box in entries(space).items():
        shape = (*leading, *box.shape)
        if box.dtype == np.uint8:
            drawn[name] = torch.from_numpy(rng.integers(0, box.high.astype(int) + 1, shape).astype(np.uint8))
        else:
            drawn[name] = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    return drawn


def actions(space: gymnasium.Space, *leading: int, seed: int = 0) -> Tensor:
    """Random actions in the form that models read."""
    rng = np.random.default_rng(seed)
    size = action_size(space)
    if isinstance(space, Discrete):
        return torch.from_numpy(np.eye(size, dtype=np.float32)[rng.integers(size, size=leading)])
    return torch.from_numpy(rng.uniform(-1, 1, (*leading, size)).astype(np.float32))


def batch(
    observation: gymnasium.Space = GRID, action: gymnasium.Space = DISCRETE, *, size: int = 4, time: int = 12
) -> Batch:
    """A batch of few different observations; in the second half of its rows an episode ends for good
    half-way, and another begins.
    """
    is_first, is_terminal = torch.zeros(size, time), torch.zeros(size, time)
    is_first[:, 0] = 1
    is_first[size // 2 :, time // 2] = 1
    is_terminal[size // 2 :, time // 2 - 1] = 1
    acted = actions(action, size, time) * (1 - is_first.unsqueeze(-1))
    reward = torch.from_numpy(np.random.default_rng(1).standard_normal((size, time)).astype(np.float32))
    which = np.random.default_rng(2).integers(4, size=(size, time))
    seen = {name: array[which] for name, array in observations(observation, 4).items()}
    return Batch(seen, acted, reward, is_first, is_terminal)


__all__ = [
    "ACTIONS",
    "CONTINUOUS",
    "DISCRETE",
    "SINGLE",
    "SPACES",
    "actions",
    "batch",
    "model",
    "observations",
    "tiny",
]
