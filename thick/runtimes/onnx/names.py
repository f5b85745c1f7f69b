"""What is called how in graphs and files, for who writes them and who runs them."""

from __future__ import annotations

from thick.models.config import ModelConfig
from thick.runtimes.parts import SINGLE


def graph_names(config: ModelConfig) -> list[str]:
    """The graphs that a model has, each a step of its agent."""
    acts, levels = config.behaviour == "actor_critic", bool(config.levels)
    names = ["encode", "observe", "imagine", "outcome", "decode"]
    names += ["value", "policy"] if acts else []
    names += ["coarse_decode"] if config.dynamics == "crssm" else []
    names += ["prior", "jump", "segment", "coarse_outcome"] if levels else []
    names += ["coarse_value"] if acts and levels else []
    return names + (["goal", "worker", "manager_value"] if config.behaviour == "director" else [])


def value_name(key: str) -> str:
    """What an entry of an observation is called in a graph."""
    return SINGLE if key == SINGLE else f"{SINGLE}.{key}"
