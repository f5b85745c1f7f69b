"""Observations as people look at them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from service.protocol.arrays import decode_array
from service.protocol.errors import invalid
from service.protocol.limits import Limits

FRAMES = 1000
"""of a film at most"""
PIXELS = 64 * 2**20
"""of all its frames together at most"""
SIDE = 65535
"""the longest side of a GIF"""


def picture_uri(observation: Any, space: Mapping[str, Any]) -> str:
    """An observation as people look at it: a data URI of a PNG."""
    from PIL import Image

    from thick.envs.pictures import picture

    buffer = io.BytesIO()
    Image.fromarray(picture(observation, space)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def gif(frames: Sequence[Any], ms: int, limits: Limits) -> bytes:
    """Pictures one after the other.

    Args:
        frames: as bodies hold them: data URIs, encoded pictures or arrays ``[height, width, 3]`` uint8.
        ms: how long each is shown.

    Raises:
        ProblemError: ``invalid_request``.
    """
    from PIL import Image

    from service.protocol.pictures.drawing import save_gif

    if not 1 <= len(frames) <= FRAMES:
        raise invalid("frames", f"expected 1 to {FRAMES} pictures, got {len(frames)}")
    images: list[Any] = []
    for index, frame in enumerate(frames):
        array = decode_array(frame, path=f"frames[{index}]", limits=limits, channels=3)
        if array.dtype != "uint8" or array.ndim != 3 or array.shape[2] != 3:
            raise invalid(f"frames[{index}]", f"expected a picture, got {array.dtype} {list(array.shape)}")
        if not all(1 <= side <= SIDE for side in array.shape[:2]):
            raise invalid(
                f"frames[{index}]", f"expected sides of 1 to {SIDE} pixels, got {list(array.shape)}"
            )
        images.append(Image.fromarray(array))
        if len(frames) * images[0].size[0] * images[0].size[1] > PIXELS:
            raise invalid("frames", f"at most {PIXELS} pixels in all; got {len(frames)} of {images[0].size}")
        if images[-1].size != images[0].size:
            raise invalid(
                f"frames[{index}]", f"expected the size of the first, {images[0].size}, got {images[-1].size}"
            )
    buffer = io.BytesIO()
    save_gif(images, buffer, [ms] * len(images))
    return buffer.getvalue()
