"""Searches over jumps of a trained high level: ours, and mctx's on the same weights in JAX."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import native
from benchmarks.bars import observed
from benchmarks.peers.command import Player
from thick.planning.gumbel import GumbelSearch
from thick.planning.jumps import JumpModel
from thick.planning.mcts import MCTS

SIMULATIONS, DEPTH, EXHAUSTIVE = 40, 8, 3


def players(options: argparse.Namespace) -> tuple[list[Player], Callable[[int, np.ndarray], float]]:
    """All searches, each to one high-level action, and what that action loses in a state."""
    model = native.bundled("doorkey6")
    high = model.high
    assert high is not None
    beliefs = observed(model, options.states)

    def ours(kind: Any) -> Callable[[int], np.ndarray]:
        def plan(state: int) -> np.ndarray:
            high.known.clear()  # as in a state that was never seen
            belief = beliefs[state]
            found = kind(JumpModel(high, belief.stoch, belief.context), simulations=SIMULATIONS, depth=DEPTH)
            while not found.done:
                found.step()
            return np.asarray(found.best()[0])

        return plan

    made = [Player("THICK mcts (PUCT)", ours(MCTS)), Player("THICK gumbel", ours(GumbelSearch))]
    if importlib.util.find_spec("mctx") is not None and importlib.util.find_spec("jax") is not None:
        from benchmarks.peers.mctx_search import searches

        made += searches(beliefs, SIMULATIONS, DEPTH)
    values = [_exhaustive(JumpModel(high, belief.stoch, belief.context)) for belief in beliefs]

    def score(state: int, action: np.ndarray) -> float:
        return float(values[state].max() - values[state][int(action)])

    return made, score


def _exhaustive(jumps: JumpModel) -> np.ndarray:
    """Values ``[G]`` of the actions now by all sequences of :data:`EXHAUSTIVE` jumps."""

    def best(state: Any, depth: int) -> np.ndarray:
        node = jumps.evaluate(state)
        if depth == 1:
            after = jumps.evaluate(node.children).value
        else:
            after = best(node.children, depth - 1).max(-1)
        return np.asarray(node.reward + node.discount * after)

    values: np.ndarray = best(jumps.root(), EXHAUSTIVE)[0]
    return values
