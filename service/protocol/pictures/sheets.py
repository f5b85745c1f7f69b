"""What a model imagines, on one page or as a film, for people.

Imaginations are those of ``clients.results``, or anything with the same fields; who draws says how an observation
becomes a picture, so that neither environments nor models are needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from service.protocol.pictures import drawing as d

MARGIN = 20

Draw = Callable[[Any], np.ndarray]
"""an observation as a picture, uint8 [h, w, 3]"""


def action_text(action: Any, names: Sequence[str] | None) -> str:
    """``forward``, ``action 3``, ``[0.25 -1.00]``"""
    if isinstance(action, (int, np.integer)):
        return names[int(action)] if names and int(action) < len(names) else f"action {int(action)}"
    return "[" + " ".join(f"{value:.2f}" for value in np.ravel(action)) + "]"


@dataclass(frozen=True)
class Sheet:
    """What a contact sheet says besides the imagination."""

    title: str
    subtitle: str
    draw: Draw
    """how to draw an observation"""
    now: Any = None
    """the current observation"""
    actions: Sequence[str] | None = None
    """names of the discrete actions"""


def contact_sheet(imagination: Any, sheet: Sheet) -> Image.Image:
    """An imagination on one page, a row for each rollout, the most probable first."""
    rollouts = sorted(imagination.rollouts, key=_first_probability, reverse=True)
    draw_rows = _high_rows if imagination.level == "high" else _low_rows
    rows = draw_rows(rollouts, sheet)
    now = 236 if sheet.now is not None else 0
    width = max(MARGIN * 2 + now + rows.width, 640)
    canvas = Image.new("RGB", (width, max(rows.height, now + 30) + 96), d.PAPER)
    draw = ImageDraw.Draw(canvas)
    d.write(draw, (MARGIN, 16), d.shorten(sheet.title, 22, width - 2 * MARGIN), 22)
    d.write(draw, (MARGIN, 46), d.shorten(sheet.subtitle, 14, width - 2 * MARGIN), 14, d.SOFT)
    if sheet.now is not None:
        d.write(draw, (MARGIN, 80), "now", 14, d.SOFT)
        image = d.fit(sheet.draw(sheet.now), 216, 216)
        d.place(canvas, image, (MARGIN, 102, image.width, image.height), d.INK)
        if any(getattr(step, "context_changed", False) for each in rollouts for step in each.steps):
            y = 118 + image.height
            draw.rectangle((MARGIN, y, MARGIN + 14, y + 14), outline=d.ORANGE, width=3)
            d.write(draw, (MARGIN + 22, y), "the context changes", 13, d.SOFT)
    canvas.paste(rows, (MARGIN + now, 76))
    return canvas


def _first_probability(rollout: Any) -> float:
    first = rollout.steps[0].probability if rollout.steps else None
    return first if first is not None else (rollout.probability or 0.0)


TILE = 132
FACTS = 148


def _high_rows(rollouts: Sequence[Any], sheet: Sheet) -> Image.Image:
    """Each step is a card: the facts of the jump, the subgoal, and what follows."""
    steps = max((len(rollout.steps) for rollout in rollouts), default=0)
    card = FACTS + 2 * TILE + 54
    row = TILE + 34
    canvas = Image.new("RGB", (max(1, steps) * (card + 12), 26 + max(1, len(rollouts)) * (row + 10)), d.PAPER)
    draw = ImageDraw.Draw(canvas)
    for column in range(steps):
        x = column * (card + 12)
        d.write(
            draw,
            (x + 12, 4),
            "first jump" if column == 0 else "then" if column == 1 else "and then",
            14,
            d.SOFT,
        )
    for r, rollout in enumerate(rollouts):
        for s, step in enumerate(rollout.steps):
            x, y = s * (card + 12), 26 + r * (row + 10)
            draw.rounded_rectangle((x, y, x + card, y + row), 8, fill=d.CARD)
            _high_facts(draw, step, x + 12, y + 10)
            place_y = y + 24
            pictures = (("subgoal", step.subgoal), ("what follows", step.observation))
            for p, (name, observation) in enumerate(pictures):
                left = x + FACTS + p * (TILE + 34)
                d.write(draw, (left + TILE / 2, y + 6), name, 12, d.SOFT, "ma")
                if observation is not None:
                    image = d.fit(sheet.draw(observation), TILE, TILE)
                    d.place(canvas, image, (left, place_y, TILE, TILE))
            d.arrow(draw, x + FACTS + TILE + 6, x + FACTS + TILE + 28, place_y + TILE // 2)
    return canvas


def _high_facts(draw: ImageDraw.ImageDraw, step: Any, x: int, y: int) -> None:
    d.write(draw, (x, y), f"action {step.high_action}", 18)
    if step.probability is not None:
        d.write(draw, (x, y + 26), f"{100 * step.probability:.1f} % likely", 14, d.BLUE)
        d.share_bar(draw, (x, y + 46, FACTS - 32, 7), step.probability)
    duration = "–" if step.duration is None else f"{step.duration:.1f}"
    d.write(draw, (x, y + 62), f"lasts {duration} steps", 14)
    d.write(draw, (x, y + 84), f"reward {d.number(step.reward)}", 13, d.SOFT)
    d.write(draw, (x, y + 102), f"value {d.number(step.value)}", 13, d.SOFT)
    if step.continuation is not None:
        ends = 100 * (1 - step.continuation)
        d.write(draw, (x, y + 120), f"ends {ends:.0f} %", 13, d.ORANGE if ends >= 50 else d.SOFT)


COLUMNS = 8


def _low_rows(rollouts: Sequence[Any], sheet: Sheet) -> Image.Image:
    """Each rollout is a strip of steps, broken after a few columns; a context change has an orange frame."""
    side, gap, foot = 112, 10, 44
    longest = max((len(rollout.steps) for rollout in rollouts), default=0)
    lines = [max(1, -(-len(rollout.steps) // COLUMNS)) for rollout in rollouts]
    height = sum(24 + n * (side + foot) + 8 for n in lines)
    canvas = Image.new("RGB", (min(COLUMNS, max(1, longest)) * (side + gap) + gap, max(1, height)), d.PAPER)
    draw = ImageDraw.Draw(canvas)
    y = 0
    for index, (rollout, count) in enumerate(zip(rollouts, lines, strict=True)):
        title = f"future {index + 1}"
        if rollout.return_ is not None:
            title += f", return {d.number(rollout.return_)}"
        d.write(draw, (gap, y + 4), title, 14)
        for s, step in enumerate(rollout.steps):
            x, top = gap + (s % COLUMNS) * (side + gap), y + 26 + (s // COLUMNS) * (side + foot)
            if step.observation is not None:
                image = d.fit(sheet.draw(step.observation), side - 4, side - 4)
                edge = d.ORANGE if step.context_changed else d.FAINT
                d.place(canvas, image, (x, top, side, side), edge)
                if step.context_changed:
                    draw.rectangle((x - 1, top - 1, x + side, top + side), outline=d.ORANGE, width=3)
            action = action_text(step.action, sheet.actions) if step.action is not None else ""
            d.write(draw, (x, top + side + 4), d.shorten(f"{s + 1}. {action}", 13, side), 13)
            facts = f"reward {d.number(step.reward)}"
            d.write(draw, (x, top + side + 20), d.shorten(facts, 12, side), 12, d.SOFT)
        y += 24 + count * (side + foot) + 8
    return canvas


def imagination_film(imagination: Any, sheet: Sheet) -> list[Image.Image]:
    """The most probable rollout, a frame a picture: now, then for each step the subgoal and what follows."""
    rollouts = sorted(imagination.rollouts, key=_first_probability, reverse=True)
    shots = list[tuple[str, Any]]()
    if sheet.now is not None:
        shots.append(("now", sheet.now))
    for step in rollouts[0].steps if rollouts else ():
        if imagination.level == "high":
            if step.subgoal is not None:
                lasts = f", {step.duration:.1f} steps" if step.duration is not None else ""
                shots.append((f"subgoal of action {step.high_action}{lasts}", step.subgoal))
            if step.observation is not None:
                shots.append(("what follows", step.observation))
        elif step.observation is not None:
            shots.append((action_text(step.action, sheet.actions), step.observation))
    frames = []
    for text, observation in shots:
        canvas = Image.new("RGB", (MARGIN * 2 + 320, MARGIN * 2 + 320 + 48), d.PAPER)
        draw = ImageDraw.Draw(canvas)
        d.write(draw, (MARGIN, 14), d.shorten(sheet.title, 14, 320), 14, d.SOFT)
        d.write(draw, (MARGIN, 36), d.shorten(text, 17, 320), 17, d.BLUE)
        d.place(canvas, d.fit(sheet.draw(observation), 320, 320), (MARGIN, MARGIN + 48, 320, 320))
        frames.append(canvas)
    return frames
