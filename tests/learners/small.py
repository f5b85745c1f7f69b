"""A configuration of every learner with a few thousand weights and a few updates."""

from __future__ import annotations

from typing import Any

SEARCH = {"samples": 8, "iterations": 1, "elites": 2, "horizon": 3, "simulations": 3}
SMALL: dict[str, Any] = {
    "updates": 4,
    "batch": 3,
    "length": 8,
    "threads": 1,
    "log_every": 1,
    "checkpoint_every": 2,
    "data": {"prefill": 80, "streams": 2, "env_steps_per_update": 2.0},
    "model": {
        "stoch": 4,
        "classes": 4,
        "deter": 12,
        "hidden": 16,
        "context": 4,
        "cnn_depth": 2,
        "mlp_layers": 1,
        "mlp_units": 16,
        "head_layers": 1,
        "head_units": 16,
        "goals": {"codes": 3, "classes": 4, "every": 2},
        "levels": {"each": {"hidden": 16, "head_units": 16}},
    },
    "behaviour": {"horizon": 3, "starts": 8, "target_every": 2},
    "director": {"starts": 8, "target_every": 2},
    "ensemble": {"members": 2, "layers": 1, "units": 16},
    "evaluation": {"alignment_every": 0, "alignment_steps": 0},
    "planner": SEARCH,
}
