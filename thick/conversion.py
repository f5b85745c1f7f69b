"""Entries of the first format (format_version 1) in the words of the present one.

There, the kind of a model said both its dynamics and whether a high level stood above it, and the world model held the
high level, the actor and the critics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

_LEVEL_LOSS = {
    "state_scale": "state",
    "high_action_scale": "high_action",
    "action_scale": "action",
    "time_scale": "time",
    "return_scale": "returns",
}
_PREFIXES = {
    "high.": "levels.0.",
    "actor.": "behaviour.actor.",
    "critic.": "behaviour.critic.",
    "coarse_critic.": "behaviour.coarse_critic.",
}

T = TypeVar("T")


def model_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``configuration.model`` of the first format as that of the present one; unknown fields are left as they are."""
    new = dict(fields)
    kind, high = new.pop("kind", "thick"), new.pop("high", {})
    new["dynamics"] = "rssm" if kind == "rssm" else "crssm"
    new["levels"] = [_level(high)] if kind == "thick" else []
    new["behaviour"] = "actor_critic" if new.pop("actor_critic", False) else "none"
    return new


def tensors(old: Mapping[str, T]) -> dict[str, T]:
    """Weights of the first format under their present names."""
    return {_renamed(name): tensor for name, tensor in old.items()}


def _level(high: Mapping[str, Any]) -> dict[str, Any]:
    level = {name: value for name, value in high.items() if name not in _LEVEL_LOSS}
    level["loss"] = {_LEVEL_LOSS[name]: value for name, value in high.items() if name in _LEVEL_LOSS}
    return level


def _renamed(name: str) -> str:
    for old, new in _PREFIXES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return f"world.{name}"
