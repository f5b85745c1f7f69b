"""What a search is, whichever level it searches for: small protocols of what can be asked of one."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol

from thick.arrays import Array
from thick.planning.protocols import Score, SoFar
from thick.planning.randomness import Randomness


class Path(NamedTuple):
    """A way down the trees of B sessions."""

    actions: Array
    """[B, D] int64, -1 beyond its end"""
    nodes: Array
    """[B, D] int64 index of the node each action leads to, -1 beyond the end"""


class HighSearch(Protocol):
    """An anytime search over high-level actions."""

    simulations_done: int
    simulations_asked: int

    @property
    def done(self) -> bool:
        """Whether the whole budget was used."""

    def step(self) -> None:
        """One slice of work."""

    @property
    def root_values(self) -> Array:
        """Value of each action at the root ``[B, G]``; 0 where it was never tried."""

    @property
    def root_visits(self) -> Array:
        """How often each action was tried at the root, ``[B, G]`` float32."""

    def best(self, *, temperature: float = 0.0, randomness: Randomness | None = None) -> Array:
        """The action to take at the root ``[B]``; drawn at a temperature above 0."""

    def path(self, first: Array | None = None) -> Path:
        """The best way down; ``first`` ``[B]`` fixes its first action."""

    def states(self, nodes: Array) -> Any:
        """States of nodes ``[B, D]`` (those of -1 are the root's), ``[B, D, ...]``."""


class Spent(NamedTuple):
    """What a search used for each of B sessions."""

    iterations: Array
    """[B] int64 iterations that were completed"""
    samples: Array
    """[B] int64 candidates that were imagined"""


class LowSearch(Protocol):
    """An anytime search over sequences of low-level actions."""

    iterations_asked: int

    @property
    def iterations_done(self) -> int:
        """Iterations that were completed."""

    @property
    def done(self) -> bool:
        """Whether the whole budget was used."""

    def step(self) -> None:
        """One slice of work."""

    def sequence(self) -> Array:
        """The best plan so far ``[B, H, A]``; valid before the first slice too."""

    def expected_return(self) -> Array:
        """Expected return of that plan, ``[B]``; 0 before the first slice."""

    def spent(self) -> Spent:
        """What was used so far."""


class Evaluate(Protocol):
    """Scores of candidates."""

    def __call__(self, candidates: Array, randomness: Randomness, /) -> Score | Generator[SoFar, None, Score]:
        """``[B, N, H, A]`` -> scores ``[B, N]``, at once or in parts."""
