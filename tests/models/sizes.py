"""Tiny models and batches that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from torch import Tensor

from thick.models.batch import Batch
from thick.models.config import LevelConfig, ModelConfig
from thick.models.encoders import SINGLE, entries
from thick.models.layers import ScalarHead
from thick.models.networks import AgentNetworks
from thick.models.world_model import action_size

IMAGE = Box(0, 255, (64, 64, 3), np.uint8)
GRID = Box(np.uint8(0), np.broadcast_to(np.array([10, 5, 3], np.uint8), (5, 6, 3)), (5, 6, 3), np.uint8)
VECTOR = Box(-np.inf, np.inf, (7,), np.float32)
MATRIX = Box(-1.0, 1.0, (2, 3), np.float32)
MIXED = Dict({"camera": IMAGE, "board": GRID, "joints": VECTOR})
OTHERS: dict[str, gymnasium.Space] = {
    "grey": Box(0, 255, (84, 96, 1), np.uint8),
    "stacked": Box(0, 255, (16, 20, 12), np.uint8),
    "floats": Box(-1.0, 1.0, (64, 64, 3), np.float32),
    "counts": Box(0, 255, (5,), np.uint8),
    "wide": Box(-1000, 500, (2, 2), np.int64),
    "doubles": Box(-np.inf, 3.0, (), np.float64),
    "halves": Box(-5.0, 5.0, (4,), np.float16),
    "flags": Box(0, 1, (3,), np.bool_),
    "bits": MultiBinary([2, 3]),
    "symbol": Discrete(5, start=-2),
    "symbols": MultiDiscrete([[2, 3], [4, 1]], start=[[0, 1], [-1, 5]]),
    "names": Dict({"observation.state": VECTOR, "keys": VECTOR, "a/b": Discrete(3), "training": VECTOR}),
}
"""one of every other kind and type"""
_SMALL = {name: space for name, space in OTHERS.items() if name not in ("grey", "floats", "names")}
SPACES: dict[str, gymnasium.Space] = {
    "image": IMAGE,
    "grid": GRID,
    "vector": VECTOR,
    "matrix": MATRIX,
    "dict": MIXED,
    "kinds": Dict({f"of.{name}": space for name, space in _SMALL.items()}),
}

DISCRETE = Discrete(4)
CONTINUOUS = Box(-1.0, 1.0, (2,), np.float32)
ACTIONS = {"discrete": DISCRETE, "continuous": CONTINUOUS}


LEVEL = LevelConfig(actions=3, hidden=24, head_units=16)


def tiny(
    *, kind: str = "thick", level: LevelConfig = LEVEL, actor_critic: bool = False, **changes: Any
) -> ModelConfig:
    """A configuration of a few thousand weights.

    Args:
        kind: as a manifest calls it: thick (a C-RSSM and a level), crssm or rssm.
        level: the level above it, where there is one.
        actor_critic: whether there are an actor and critics.
        changes: other fields.
    """
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
        "dynamics": "rssm" if kind == "rssm" else "crssm",
        "levels": (level,) if kind == "thick" else (),
        "behaviour": "actor_critic" if actor_critic else "none",
    }
    return ModelConfig(**{**sizes, **changes})


def model(
    observation: gymnasium.Space = GRID, action: gymnasium.Space = DISCRETE, seed: int = 0, **changes: Any
) -> AgentNetworks:
    """A tiny model with reproducible weights, none of them as they begin where that is zero."""
    torch.manual_seed(seed)
    made = AgentNetworks(tiny(**changes), observation, action)
    for head in made.modules():
        if isinstance(head, ScalarHead) and head.twohot and head.out is not None:
            torch.nn.init.normal_(head.out.weight)
    return made


def observations(space: gymnasium.Space, *leading: int, seed: int = 0) -> dict[str, Tensor]:
    """Random observations by entry."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, Tensor] = {}
    for name, box in entries(space).items():
        shape = (*leading, *(box.shape or ()))
        if isinstance(box, Box) and box.dtype == np.uint8:
            drawn[name] = torch.from_numpy(rng.integers(0, box.high.astype(int) + 1, shape).astype(np.uint8))
        elif isinstance(box, Box) and box.dtype == np.float32 and not box.is_bounded():
            drawn[name] = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        else:
            box.seed(seed)
            flat = [np.asarray(box.sample()) for _ in range(int(np.prod(leading)))]
            drawn[name] = torch.from_numpy(np.stack(flat).reshape(shape))
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
