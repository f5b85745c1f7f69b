"""Images of another size than the environment shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thick.envs.errors import UnusableEnvironmentError
from thick.envs.kinds import SMALLEST_IMAGE

Array = np.ndarray[Any, Any]


def is_frame(shape: Sequence[int]) -> bool:
    """Whether sides are those of an image."""
    return min(shape) >= SMALLEST_IMAGE


def side_of(resize: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width that are asked for; None: images stay as they are.

    Raises:
        UnusableEnvironmentError: it is no size of an image.
    """
    if resize is None:
        return None
    sides: list[Any] = list(resize) if isinstance(resize, list | tuple) else [resize, resize]
    if len(sides) != 2 or any(type(side) is not int or side < SMALLEST_IMAGE for side in sides):
        raise UnusableEnvironmentError(
            f"resize: expected a side of at least {SMALLEST_IMAGE} pixels, or [height, width], got {resize!r}"
        )
    return sides[0], sides[1]


def resized(image: Array, size: tuple[int, int]) -> Array:
    """An image [H, W, C], averaged over areas; other arrays as they are."""
    from PIL import Image

    if image.ndim != 3 or not is_frame(image.shape[:2]):
        return image
    planes = [
        np.asarray(Image.fromarray(image[..., c]).resize(size[::-1], Image.Resampling.BOX))
        for c in range(image.shape[-1])
    ]
    return np.stack(planes, -1)
