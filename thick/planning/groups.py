"""Searches of several groups of sessions as one: sessions that are searched for differently, or each for itself, share
an act."""

from __future__ import annotations

from collections.abc import Sequence

from thick import pytrees
from thick.arrays import Array, of
from thick.planning.searches import LowSearch, Spent


class GroupedSearch:
    """An anytime search made of one for each group; a slice is one of the group that has done least.

    Args:
        groups: rows ``[M]`` of a group, and the search of these sessions. Every row is in one group.
    """

    def __init__(self, groups: Sequence[tuple[Array, LowSearch]]) -> None:
        self._groups = list(groups)
        self._slices = [0] * len(groups)
        self.iterations_asked = max(search.iterations_asked for _, search in self._groups)

    @property
    def iterations_done(self) -> int:
        """Iterations that every group has completed or needs no more."""
        return min(
            search.iterations_asked if search.done else search.iterations_done for _, search in self._groups
        )

    @property
    def done(self) -> bool:
        """Whether every group's budget was used."""
        return all(search.done for _, search in self._groups)

    def step(self) -> None:
        """One slice of one group."""
        waiting = [index for index, (_, search) in enumerate(self._groups) if not search.done]
        if waiting:
            least = min(
                waiting, key=lambda index: (self._groups[index][1].iterations_done, self._slices[index])
            )
            self._slices[least] += 1
            self._groups[least][1].step()

    def sequence(self) -> Array:
        """The best plans so far ``[B, H, A]``."""
        return self._together([search.sequence() for _, search in self._groups])

    def expected_return(self) -> Array:
        """Expected returns of these, ``[B]``."""
        return self._together([search.expected_return() for _, search in self._groups])

    def spent(self) -> Spent:
        """What each session used."""
        return Spent(*map(self._together, zip(*(search.spent() for _, search in self._groups), strict=True)))

    def _together(self, parts: Sequence[Array]) -> Array:
        batch = sum(rows.shape[0] for rows, _ in self._groups)
        whole = of(parts[0]).empty_like(parts[0], batch, *parts[0].shape[1:])
        for (rows, _), part in zip(self._groups, parts, strict=True):
            whole = pytrees.put(whole, rows, part)
        return whole
