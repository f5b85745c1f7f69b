"""The models that are served: random weights, real sizes. Speed does not depend on what was learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0


@dataclass(frozen=True)
class Served:
    """One model of the benchmark."""

    name: str
    about: str
    sizes: Mapping[str, Any]
    """fields of ``thick.models.config.ModelConfig``"""
    planner: Mapping[str, Any]
    """defaults of its manifest: what a ``flat`` act searches"""

    def observation(self, rng: np.random.Generator) -> np.ndarray:
        """A random observation, as an environment would show it."""
        if self.name == "image":
            return rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        return np.stack([rng.integers(0, high, (8, 8), dtype=np.uint8) for high in (11, 6, 4)], -1)


IMAGE = Served(
    "image",
    "64x64x3 pixels, two continuous actions",
    {
        "dynamics": "crssm", "stoch": 16, "classes": 16, "deter": 128, "hidden": 128, "context": 8, "cnn_depth": 12,
        "mlp_layers": 2, "mlp_units": 128, "head_layers": 2, "head_units": 128, "behaviour": "actor_critic",
    },
    {"method": "flat", "low": "cem", "samples": 64, "iterations": 2, "elites": 8, "horizon": 6},
)  # fmt: skip
GRID = Served(
    "grid",
    "8x8x3 symbols, five discrete actions: the sizes and the search of the bundled DoorKey model",
    {
        "dynamics": "crssm", "stoch": 24, "classes": 8, "deter": 128, "hidden": 128, "context": 8,
        "mlp_layers": 2, "mlp_units": 256, "head_layers": 2, "head_units": 128, "behaviour": "actor_critic",
    },
    {"method": "flat", "low": "categorical-cem", "samples": 400, "iterations": 4, "elites": 40, "horizon": 14},
)  # fmt: skip
MODELS = {served.name: served for served in (IMAGE, GRID)}


def write(folder: Path) -> None:
    """Export every model into a repository."""
    import torch
    from gymnasium.spaces import Box, Discrete

    from thick.export import write_entry
    from thick.models.config import LevelConfig, ModelConfig
    from thick.models.networks import AgentNetworks
    from thick.spaces import space_to_json

    grid_high = np.broadcast_to(np.array([10, 5, 3], np.uint8), (8, 8, 3))
    spaces = {
        "image": (Box(0, 255, (64, 64, 3), np.uint8), Box(-1.0, 1.0, (2,), np.float32)),
        "grid": (Box(np.uint8(0), grid_high, (8, 8, 3), np.uint8), Discrete(5)),
    }
    for served in MODELS.values():
        torch.manual_seed(SEED)
        level = LevelConfig(actions=3, hidden=192, head_units=128)
        model = AgentNetworks(ModelConfig(**served.sizes, levels=(level,)), *spaces[served.name])
        write_entry(
            folder,
            name=served.name,
            version=None,
            kind="thick",
            task=f"benchmark:{served.name}",
            observation_space=space_to_json(model.observation_space),
            action_space=space_to_json(model.action_space),
            configuration={"model": model.config},
            planner=dict(served.planner),
            provenance={"command": "random weights, for benchmarks/serving.py"},
            tensors=model.state_dict(),
        )
