"""Films of episodes, for people; what a model imagines is drawn by :mod:`service.protocol.pictures.sheets`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from clients.episodes import Moment
from service.protocol.pictures import drawing as d
from service.protocol.pictures.sheets import MARGIN, Draw, action_text
from thick.envs.kinds import image_range, kinds_of
from thick.envs.pictures import picture, rgb
from thick.spaces import as_space, space_to_json

FRAME_MS = 180
LAST_FRAME_MS = 2000
LARGEST = 320
"""side of the largest picture on any page, pixels"""


def drawer(space: Any) -> Draw:
    """How to draw the observations of a space (gymnasium, JSON or of the protocol)."""
    form = space_to_json(as_space(space))
    kinds = kinds_of(form)
    if kinds == {"": "image"}:
        low, high = image_range(form)
        # In its own size: whoever lays it out enlarges it by a whole factor.
        return lambda observation: rgb(observation, low=low, high=high)
    if kinds == {"": "grid"}:
        tile = max(16, -(-LARGEST // max(form["shape"][:2])))  # drawn large, so that it fills any box
        return lambda observation: picture(observation, form, tile=tile)
    return lambda observation: picture(observation, form)


class Film:
    """Collects the moments of an episode and draws them as a GIF; give it to ``drive`` as the watcher.

    Args:
        space: the observation space (gymnasium, JSON or of the protocol).
        actions: names of the discrete actions, where they have names.
        title: a line above the picture.
    """

    def __init__(self, space: Any, actions: Sequence[str] | None, *, title: str) -> None:
        self._draw = drawer(space)
        self._actions = actions
        self._title = title
        self._moments = list[Moment]()

    def __call__(self, moment: Moment) -> None:
        """Takes one moment."""
        self._moments.append(moment)

    def save(self, path: Path) -> None:
        """Writes the GIF.

        Raises:
            ValueError: the film has no pictures yet.
        """
        if not self._moments:
            raise ValueError("the film has no pictures yet")
        frames = self.frames()
        path.parent.mkdir(parents=True, exist_ok=True)
        d.save_gif(frames, path, [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS])

    def frames(self) -> list[Image.Image]:
        """One frame for each moment."""
        subgoal: Any = None
        frames = []
        for index, moment in enumerate(self._moments):
            plan = moment.decision.plan if moment.decision else None
            if plan and plan.high and plan.high.subgoal is not None:
                subgoal = plan.high.subgoal
            frames.append(self._frame(index, moment, subgoal))
        return frames

    def _frame(self, index: int, moment: Moment, subgoal: Any) -> Image.Image:
        side, small = 320, 192
        canvas = Image.new("RGB", (MARGIN * 3 + side + 220, MARGIN * 2 + side + 84), d.PAPER)
        draw = ImageDraw.Draw(canvas)
        d.write(draw, (MARGIN, 12), d.shorten(self._title, 15, canvas.width - 2 * MARGIN), 15)
        top = MARGIN + 20
        shown = d.fit(moment.frame, side, side) if moment.frame is not None else None
        image = shown or d.fit(self._draw(moment.observation), side, side)
        d.place(canvas, image, (MARGIN, top, side, side))
        left = 2 * MARGIN + side
        self._facts(draw, moment, left, top)
        if subgoal is not None:
            d.write(draw, (left, top + 104), "subgoal", 13, d.SOFT)
            d.place(canvas, d.fit(self._draw(subgoal), small, small), (left, top + 122, small, small))
        self._timeline(draw, index, (MARGIN, top + side + 18, canvas.width - 2 * MARGIN, 16))
        return canvas

    def _facts(self, draw: ImageDraw.ImageDraw, moment: Moment, left: int, top: int) -> None:
        d.write(draw, (left, top - 4), f"step {moment.step}", 22)
        if moment.action is None:
            ends = {True: ("solved", d.GREEN), False: ("not solved", d.ORANGE), None: ("over", d.SOFT)}
            text, colour = ends[moment.success]
            d.write(draw, (left, top + 28), text, 17, colour)
        else:
            d.write(draw, (left, top + 28), d.shorten(self.action_text(moment.action), 17, 220), 17, d.BLUE)
        d.write(draw, (left, top + 54), f"return {d.number(moment.return_)}", 14, d.SOFT)
        plan = moment.decision.plan if moment.decision else None
        if moment.events:
            d.write(draw, (left, top + 78), ", ".join(moment.events).replace("_", " "), 14, d.GREEN)
        elif plan and plan.context_changed:
            gates = f", {plan.gates_open} gates" if plan.gates_open > 1 else ""
            d.write(draw, (left, top + 78), f"context changed{gates}", 14, d.ORANGE)
        elif plan and plan.replanned and plan.high:
            d.write(draw, (left, top + 78), "planned anew", 14, d.SOFT)

    def _timeline(self, draw: ImageDraw.ImageDraw, now: int, box: tuple[int, int, int, int]) -> None:
        """The episode as a line: a mark where the context changed, a dot where something happened."""
        left, top, width, height = box
        last = max(1, len(self._moments) - 1)
        middle = top + height // 2
        draw.line((left, middle, left + width, middle), fill=d.FAINT, width=3)
        draw.line((left, middle, left + width * now / last, middle), fill=d.INK, width=3)
        for index, moment in enumerate(self._moments[: now + 1]):
            x = left + width * index / last
            plan = moment.decision.plan if moment.decision else None
            if plan and plan.context_changed:
                draw.line((x, top, x, top + height), fill=d.ORANGE, width=3)
            if moment.events:
                draw.ellipse((x - 5, middle - 5, x + 5, middle + 5), fill=d.GREEN)
        y = top + height + 6
        draw.line((left + 2, y + 1, left + 2, y + 12), fill=d.ORANGE, width=3)
        d.write(draw, (left + 10, y), "the context changed", 12, d.SOFT)
        x = left + 24 + d.text_width("the context changed", 12)
        draw.ellipse((x, y + 2, x + 10, y + 12), fill=d.GREEN)
        d.write(draw, (x + 16, y), "something happened (as the environment reports)", 12, d.SOFT)

    def action_text(self, action: Any) -> str:
        """An action in words."""
        return action_text(action, self._actions)
