"""Tree searches over jumps that a model makes itself: what a search asks of it then."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from thick.arrays import Array
from thick.planning.protocols import JumpState


class Rule(NamedTuple):
    """How a tree search selects."""

    schedule: list[int] | None = None
    """for each simulation the visits that the root's next action has had (Gumbel MuZero); None selects by PUCT"""
    noise: list[list[float]] | None = None
    """for each session and action of the root, with a schedule"""


class Forest(Protocol):
    """Trees over jumps that a model keeps and searches itself, one a session. They must be, number for number, those of
    :class:`thick.planning.mcts.MCTS` and :class:`thick.planning.gumbel.GumbelSearch` over the same nodes."""

    sessions: int
    actions: int

    def simulate(self, done: int, asked: int, seconds: float) -> int:
        """Go on from ``done`` simulations, by one at least, to ``asked`` or the end of the time; how many now are."""

    def edges(self, session: int, node: int) -> tuple[list[float], float, list[float], list[float], Any]:
        """Prior, value, rewards and discounts of a node, and visits, values and children of its edges."""

    def bounds(self, session: int) -> tuple[float, float]:
        """The lowest and the highest mean return of all edges."""

    def set_prior(self, session: int, prior: list[float]) -> None:
        """Another prior at the root."""

    def states(self, nodes: Array) -> JumpState:
        """States of nodes ``[B, D]`` (those of 0 and -1 are the root's), ``[B, D, ...]``."""


@runtime_checkable
class Forester(Protocol):
    """What ``model.high`` may have besides :class:`~thick.planning.protocols.HighModel`: whole simulations of a tree
    search in one call."""

    actions: int

    def arrival(self, stoch: Array, context: Array) -> Array:
        """Reward received on arriving in states, ``[B]``, as ``outcome`` has it."""

    def forest(self, root: JumpState, rule: Rule, *, simulations: int, depth: int, critic: bool) -> Forest:
        """Trees that begin in states ``[B]``, for so many simulations of paths of ``depth`` jumps at most."""
