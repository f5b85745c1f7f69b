"""Controls for the search over high-level actions: a jump that is drawn, and nothing searched.

If an agent does as well with these, the values that a search finds were not what helped it.
"""

from __future__ import annotations

from typing import Any

from thick import pytrees
from thick.arrays import Array, of
from thick.planning.protocols import SearchModel
from thick.planning.randomness import Randomness
from thick.planning.searches import HighSearch, Path
from thick.planning.settings import PlannerSettings


class Drawn:
    """One jump a session, drawn anew whenever the high level is due.

    Args:
        model: whose jumps.
        uniform: every high-level action is as likely; otherwise as likely as the prior p(A | s) says.
        randomness: what draws.
    """

    simulations_asked = 1

    def __init__(self, model: SearchModel, *, uniform: bool, randomness: Randomness) -> None:
        root = model.root()
        node = model.evaluate(root)
        xp = of(node.prior)
        self._prior, self._values = node.prior, node.reward
        self.actions = node.prior.shape[-1]
        weights = xp.zeros(*node.prior.shape) if uniform else xp.log(xp.clip(node.prior, 1e-9))
        self._drawn = (weights + randomness.gumbel(self.actions)).argmax(-1)
        self._states = pytrees.map_arrays(
            lambda top, below: of(top).concat([top[:, None], below], 1), root, node.children
        )
        self.simulations_done = 0

    @property
    def done(self) -> bool:
        """Whether the jump was drawn."""
        return self.simulations_done == 1

    def step(self) -> None:
        """The one slice."""
        self.simulations_done = 1

    @property
    def root_values(self) -> Array:
        """What each jump earns, ``[B, G]``; not what it was chosen by."""
        return self._values

    @property
    def root_visits(self) -> Array:
        """1 for the drawn action, ``[B, G]``."""
        return of(self._prior).as_float(of(self._prior).one_hot(self._drawn, self.actions))

    def best(self, *, temperature: float = 0.0, randomness: Randomness | None = None) -> Array:
        """The drawn action ``[B]``, at any temperature."""
        return self._drawn

    def path(self, first: Array | None = None) -> Path:
        """The drawn jump alone."""
        action = self._drawn if first is None else first
        return Path(action[:, None], action[:, None] + 1)

    def states(self, nodes: Array) -> Any:
        """States of nodes ``[B, D]``: 0 and -1 are the root, 1 + A what the jump A leads to."""
        xp = of(nodes)
        rows, index = xp.arange(nodes.shape[0])[:, None], xp.clip(nodes, 0)
        return pytrees.map_arrays(lambda x: x[rows, index], self._states)


def high_search(model: SearchModel, settings: PlannerSettings, randomness: Randomness | None) -> HighSearch:
    """A drawn jump: ``random`` uniformly, ``prior`` by p(A | s)."""
    if randomness is None:
        raise ValueError(f"planner.high: {settings.high!r} draws, and needs randomness")
    return Drawn(model, uniform=settings.high == "random", randomness=randomness)
