"""Where a model stood at the steps of a replay, so that a window can begin there and not in nothing.

A window that begins within an episode has no past: what happened before it is hidden from the learner. DreamerV3 and
R2D2 (Kapturowski et al., 2019) begin it with the state that the model had there when it last learned from the step
before. That state is some updates old, and better than none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from thick.data.replay import ReplayRing

NEVER = -1
"""in place of a step, and of a class"""


class Latents:
    """States ``(z, [c, h])`` at steps of rings: classes of z in 8 or 16 bits, memory in 16-bit floats.

    Args:
        rings: whose steps; in the order in which a :class:`~thick.data.mixture.Mixture` has them.
        stoch, classes: S and K of z.
        memory: size of ``[c, h]``, M.
    """

    def __init__(self, rings: Sequence[ReplayRing], *, stoch: int, classes: int, memory: int) -> None:
        self._rings = tuple(rings)
        kind = np.uint8 if classes <= 256 else np.int16
        self._step = [np.full((ring.streams, ring.rows), NEVER, np.int64) for ring in rings]
        self._stoch = [np.zeros((ring.streams, ring.rows, stoch), kind) for ring in rings]
        self._memory = [np.zeros((ring.streams, ring.rows, memory), np.float16) for ring in rings]

    def begin(self, window: dict[str, np.ndarray]) -> None:
        """Give windows the states that they go on from, where the step before is known and of the same episode.

        Args:
            window: of :meth:`~thick.data.replay.ReplayRing.sample`; gets ``start/stoch`` int64 ``[B, S]`` and
                ``start/memory`` float32 ``[B, M]``. Where a state is known, the first step is no ``is_first`` any more;
                where none is, it stays one, and the arrays are zero.
        """
        rows = len(window["at/step"])
        stoch = np.zeros((rows, self._stoch[0].shape[-1]), np.int64)
        memory = np.zeros((rows, self._memory[0].shape[-1]), np.float32)
        for row in range(rows):
            ring, stream, step = (int(window[f"at/{name}"][row]) for name in ("ring", "stream", "step"))
            before = (step - 1) % self._rings[ring].rows
            if step == 0 or self._step[ring][stream, before] != step - 1:
                continue
            if self._rings[ring].begins_episode(stream, step):
                continue
            window["is_first"][row, 0] = False
            stoch[row], memory[row] = self._stoch[ring][stream, before], self._memory[ring][stream, before]
        window["start/stoch"], window["start/memory"] = stoch, memory

    def keep(self, window: Mapping[str, np.ndarray], stoch: np.ndarray, memory: np.ndarray) -> None:
        """Remember the states at all steps of a batch of windows.

        Args:
            window: the same.
            stoch: ``[B, T, S]`` classes.
            memory: ``[B, T, M]``.
        """
        for row in range(len(stoch)):
            ring, stream, step = (int(window[f"at/{name}"][row]) for name in ("ring", "stream", "step"))
            steps = step + np.arange(stoch.shape[1])
            places = steps % self._rings[ring].rows
            self._step[ring][stream, places] = steps
            self._stoch[ring][stream, places] = stoch[row]
            self._memory[ring][stream, places] = memory[row]

    # -- state -----------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """What is known, by names for a checkpoint: arrays of as many entries as steps were ever learned from."""
        found = {}
        for index, steps in enumerate(self._step):
            place = np.flatnonzero(steps != NEVER)
            found[f"{index}.place"] = place
            for name, array in self._of(index).items():
                found[f"{index}.{name}"] = array[place]
        return found

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The reverse of :meth:`arrays`."""
        for index, steps in enumerate(self._step):
            steps[:] = NEVER
            for name, array in self._of(index).items():
                array[arrays[f"{index}.place"]] = arrays[f"{index}.{name}"]

    def _of(self, index: int) -> dict[str, np.ndarray]:
        """The arrays of a ring, streams and rows in one dimension."""
        whole: dict[str, list[np.ndarray]] = {
            "step": self._step,
            "stoch": self._stoch,
            "memory": self._memory,
        }
        return {name: array[index].reshape(-1, *array[index].shape[2:]) for name, array in whole.items()}
