"""Imagination as a picture: a contact sheet (PNG) or a film (GIF, WebP), drawn as ``thick imagine`` draws it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from service.protocol import media
from service.protocol.pictures.drawing import save_gif
from service.protocol.pictures.sheets import Sheet, contact_sheet, imagination_film
from thick.envs.pictures import picture

FRAME_MS = 900
"""how long a film shows each picture"""
_STEP = dict.fromkeys(
    (
        "high_action", "probability", "duration", "reward", "value", "continuation", "subgoal", "action",
        "context_changed", "observation",
    )
)  # fmt: skip
"""fields of a step that a sheet looks at; the other level's are None"""


def render(imagined: Mapping[str, Any], space: Mapping[str, Any], kind: str, *, title: str) -> bytes:
    """The picture of an imagination.

    Args:
        imagined: as the API answers it, with decoded observations as plain arrays.
        space: the observation space, JSON form.
        kind: ``image/png``, ``image/gif`` or ``image/webp``.
        title: a line above it.
    """
    rollouts = [
        SimpleNamespace(
            probability=rollout["probability"],
            return_=rollout["return"],
            steps=[SimpleNamespace(**{**_STEP, **step}) for step in rollout["steps"]],
        )
        for rollout in imagined["rollouts"]
    ]
    imagination = SimpleNamespace(level=imagined["level"], rollouts=rollouts)
    level = f"{imagined['level']} level, {len(rollouts)} {'futures' if len(rollouts) != 1 else 'future'}"
    sheet = Sheet(title=title, subtitle=level, draw=lambda observation: picture(observation, space))
    buffer = io.BytesIO()
    if kind == media.PNG:
        contact_sheet(imagination, sheet).save(buffer, "PNG")
        return buffer.getvalue()
    frames = imagination_film(imagination, sheet)
    if kind == media.GIF:
        save_gif(frames, buffer, [FRAME_MS] * len(frames))
    else:
        frames[0].save(
            buffer, "WEBP", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=90
        )
    return buffer.getvalue()
