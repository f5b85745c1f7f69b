"""gymnasium's spaces, built from the JSON form that `thick.spaces` reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thick.spaces import Box, Discrete, MultiDiscrete, Space, parse_space

if TYPE_CHECKING:
    import gymnasium

IMAGE_SHAPE = (64, 64, 3)
"""the shape of the images that this project's own environments show"""


def space_from_json(form: Mapping[str, Any]) -> gymnasium.Space[Any]:
    """The space of a JSON form; raises ValueError saying which part is wrong and what was expected."""
    from thick.envs.packages import require

    return _build(parse_space(form), require("gymnasium").spaces)


def _build(space: Space, spaces: Any) -> Any:
    if isinstance(space, Box):
        return spaces.Box(space.low, space.high, space.shape, space.dtype)
    if isinstance(space, Discrete):
        return spaces.Discrete(space.n, start=space.start)
    if isinstance(space, MultiDiscrete):
        return spaces.MultiDiscrete(np.reshape(space.nvec, space.shape), start=space.low)
    return spaces.Dict({key: _build(entry, spaces) for key, entry in space.spaces.items()})
