"""Several rings sampled as one: a data set that was given, and what the agent collects in addition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thick.data.replay import ReplayRing


class Mixture:
    """Rings with the same fields; their numbers of streams and steps are their own.

    Args:
        rings: at least one.

    Raises:
        ValueError: their fields differ.
    """

    def __init__(self, rings: Sequence[ReplayRing]) -> None:
        for ring in rings[1:]:
            if ring.fields != rings[0].fields:
                raise ValueError(f"rings with other fields: {rings[0].fields} and {ring.fields}")
        self.rings = tuple(rings)

    def __len__(self) -> int:
        """Steps that can be sampled."""
        return sum(len(ring) for ring in self.rings)

    def sample(
        self, batch: int, time: int, rng: np.random.Generator, *, from_start: float = 0.0
    ) -> dict[str, np.ndarray]:
        """Windows ``[batch, time, ...]``, uniformly among those of all rings; see :meth:`ReplayRing.sample`.

        Raises:
            ValueError: no ring has ``time`` steps in a stream.
        """
        windows = np.array([ring.streams * max(ring.available - time + 1, 0) for ring in self.rings])
        usable = np.flatnonzero(windows)
        if len(usable) <= 1:
            most = max(range(len(self.rings)), key=lambda index: self.rings[index].available)
            index = int(usable[0]) if len(usable) else most
            window = self.rings[index].sample(batch, time, rng, from_start=from_start)
            window["at/ring"][:] = index
            return window
        counts = rng.multinomial(batch, windows / windows.sum())
        parts = []
        for index, (ring, count) in enumerate(zip(self.rings, counts, strict=True)):
            if count:
                parts.append(ring.sample(int(count), time, rng, from_start=from_start))
                parts[-1]["at/ring"][:] = index
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
