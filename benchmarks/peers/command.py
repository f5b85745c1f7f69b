"""Milliseconds an act, and how good the plan is, beside other people's planners.

    pip install stable-worldmodel mctx 'jax[cpu]'
    python benchmarks/planning.py --peers [--threads 2] [--seconds 4] [--states 16]

Two tables. *Actions*: the bundled cartpole, the budget of its manifest (candidates, iterations, elites, horizon), no
warm start. THICK on each of its runtimes; the cross-entropy solvers of stable-worldmodel, and a plain loop in eager
torch, on the same trained modules. *Jumps*: the high level of the bundled room. THICK's searches; mctx's on the same
weights, written in JAX and compiled.

Score of a plan: the return that its actions have in the model, mean of 64 rollouts that are the same for all; of a
jump, what it loses against the best one by an exhaustive tree of depth 3. All play on the same states, a turn each,
round after round.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.serving.measure import machine


@dataclass
class Player:
    """A planner, and what it did on each state."""

    name: str
    plan: Callable[[int], np.ndarray]
    """the plan for a state, by its number"""
    times: list[list[float]] = field(default_factory=list)
    """s, of each state"""
    plans: list[np.ndarray] = field(default_factory=list)


def main(options: argparse.Namespace) -> int:
    """Measure and print."""
    import torch

    from benchmarks.peers import actions, jumps
    from thick.runtimes.native import library

    torch.set_num_threads(options.threads)
    library.use_threads(options.threads)
    print(f"{machine()}; {options.threads} threads; {library.instructions()}\n")
    missing = [
        name for name in ("stable_worldmodel", "mctx", "jax") if importlib.util.find_spec(name) is None
    ]
    if missing:
        print(
            f"left out, since not installed: {', '.join(missing)} (pip install stable-worldmodel mctx 'jax[cpu]')\n"
        )
    for title, unit, made in (
        (
            "Actions: cartpole, 300 candidates × 14 steps × 5 iterations",
            "return of the plan",
            actions.players(options),
        ),
        ("Jumps: doorkey6, 40 simulations, depth 8", "lost by the jump", jumps.players(options)),
    ):
        players, score = made
        play(players, options.states, options.seconds)
        print(table(title, unit, players, score))
    return 0


def play(players: Sequence[Player], states: int, seconds: float) -> None:
    """Every player plans for every state, in turns, until each has had its seconds."""
    for player in players:
        player.plans = [player.plan(state) for state in range(states)]
        player.times = [[] for _ in range(states)]
    until = time.perf_counter() + seconds * len(players)
    while time.perf_counter() < until or not players[-1].times[-1]:
        for state in range(states):
            for player in players:
                began = time.perf_counter()
                player.plan(state)
                player.times[state].append(time.perf_counter() - began)


def table(title: str, unit: str, players: Sequence[Player], score: Callable[[int, np.ndarray], float]) -> str:
    """A table for people; scores of all states, with a 95 % interval of their mean difference to the first player's."""
    lines = [
        f"**{title}**",
        "",
        f"| Planner | ms, median | {unit} | against the first |",
        "|---|---|---|---|",
    ]
    first: list[float] = []
    for player in players:
        scores = [score(state, plan) for state, plan in enumerate(player.plans)]
        first = first or scores
        taken = 1e3 * statistics.median(statistics.median(times) for times in player.times)
        apart = [one - other for one, other in zip(scores, first, strict=True)]
        half = 1.96 * statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
        against = "–" if scores is first else f"{statistics.mean(apart):+.3f} ± {half:.3f}"
        lines.append(f"| {player.name} | {taken:.2f} | {statistics.mean(scores):.3f} | {against} |")
    return "\n".join(lines) + "\n"
