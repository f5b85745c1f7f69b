"""Tiny models in a repository, and observations for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.models import sizes
from thick.envs.spaces import space_to_json
from thick.export import write_entry

PLANNER = {"samples": 16, "iterations": 2, "elites": 4, "horizon": 3, "simulations": 6, "depth": 2, "kept": 2}
"""a search that takes a few milliseconds"""

SPACES = {"dict": sizes.MIXED, "vector": sizes.VECTOR, "image": sizes.IMAGE, "grid": sizes.GRID}


def write_model(
    folder: Path,
    name: str,
    *,
    observation: str,
    action: str,
    kind: str = "thick",
    version: str | None = None,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """An entry with random weights; thick models have an actor and a critic."""
    changes.setdefault("actor_critic", kind == "thick")
    model = sizes.model(SPACES[observation], sizes.ACTIONS[action], seed, kind=kind, **changes)
    planner: dict[str, Any] = {**PLANNER, "method": "hierarchical" if kind == "thick" else "flat"}
    planner["low"] = "cem" if action == "continuous" else "categorical-cem"
    return write_entry(
        folder,
        name=name,
        version=version,
        kind=kind,
        task="tests:" + name,
        observation_space=space_to_json(model.observation_space),
        action_space=space_to_json(model.action_space),
        configuration={"model": model.config},
        planner=planner,
        provenance={"command": "random weights"},
        tensors=model.state_dict(),
    )


def observe(model: str, seed: int = 0) -> Any:
    """A random observation of one of the models of the fixture."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    vector = rng.standard_normal(7).astype(np.float32)
    if model == "arm":
        return vector
    if model == "camera":
        return image
    board = np.stack([rng.integers(0, high + 1, (5, 6), dtype=np.uint8) for high in (10, 5, 3)], -1)
    return {"camera": image, "board": board, "joints": vector}
