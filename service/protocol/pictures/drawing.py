"""Small helpers of the pictures: fonts, colours, pictures fitted into boxes, bars and marks (Pillow)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

PAPER: Colour = (250, 250, 248)
INK: Colour = (38, 41, 48)
SOFT: Colour = (112, 117, 128)
FAINT: Colour = (222, 224, 229)
CARD: Colour = (240, 241, 243)
BLUE: Colour = (58, 112, 214)
GREEN: Colour = (40, 150, 84)
ORANGE: Colour = (222, 112, 42)


@lru_cache(maxsize=16)
def font(size: int) -> Any:
    """The font that comes with Pillow."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Pixels."""
    return round(font(size).getlength(text))


def shorten(text: str, size: int, room: int) -> str:
    """The text, cut so that it fits."""
    while len(text) > 1 and text_width(text, size) > room:
        text = text[:-2] + "…"
    return text


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    fill: Colour = INK,
    anchor: str = "la",
) -> None:
    """One line of text."""
    draw.text(at, text, font=font(size), fill=fill, anchor=anchor)


MOST_FILLED = 0.8
"""of a box's side, by whole pixels: with less, pixels are enlarged once more and the picture made smaller again"""


def fit(pixels: np.ndarray, width: int, height: int) -> Image.Image:
    """A picture uint8 [h, w, 3] scaled into a box, shape kept; enlarging keeps pixels sharp."""
    image = Image.fromarray(pixels)
    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if scale >= 1:
        whole = int(scale)
        fills = whole > MOST_FILLED * scale
        whole += not fills
        image = image.resize((image.width * whole, image.height * whole), Image.Resampling.NEAREST)
        if fills:
            return image
    return image.resize(size, Image.Resampling.LANCZOS)


def place(
    canvas: Image.Image, image: Image.Image, box: tuple[int, int, int, int], edge: Colour = FAINT
) -> None:
    """Pastes an image into the middle of a box (left, top, width, height), with a thin frame."""
    left, top, width, height = box
    x, y = left + (width - image.width) // 2, top + (height - image.height) // 2
    ImageDraw.Draw(canvas).rectangle((x - 1, y - 1, x + image.width, y + image.height), outline=edge)
    canvas.paste(image, (x, y))


def share_bar(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], share: float, fill: Colour = BLUE
) -> None:
    """A bar filled to ``share`` of its box (left, top, width, height)."""
    left, top, width, height = box
    draw.rounded_rectangle((left, top, left + width, top + height), height / 2, fill=FAINT)
    filled = round(width * min(1.0, max(0.0, share)))
    if filled >= height:
        draw.rounded_rectangle((left, top, left + filled, top + height), height / 2, fill=fill)


def arrow(draw: ImageDraw.ImageDraw, left: float, right: float, y: float, fill: Colour = SOFT) -> None:
    """An arrow to the right."""
    draw.line((left, y, right - 5, y), fill=fill, width=2)
    draw.polygon([(right, y), (right - 8, y - 4), (right - 8, y + 4)], fill=fill)


def number(value: float | None) -> str:
    """A number for a caption."""
    if value is None:
        return "–"
    # Adding zero turns -0.0 into 0.0.
    return f"{round(value, 2) + 0.0:.2f}" if abs(value) < 100 else f"{value:.0f}"


def save_gif(frames: list[Image.Image], path: Any, durations: list[int]) -> None:
    """Frames of one size as a looping GIF; ``durations`` in milliseconds."""
    # One palette for all frames: otherwise colours flicker from frame to frame. The page's own colours cover few
    # pixels, so they get swatches.
    count, height, band = min(4, len(frames)), frames[0].height, 24
    own = (PAPER, INK, SOFT, FAINT, CARD, BLUE, GREEN, ORANGE)
    sample = Image.new("RGB", (frames[0].width, height * count + band * len(own)))
    for index in range(count):
        chosen = frames[index * (len(frames) - 1) // max(1, count - 1)]
        sample.paste(chosen, (0, index * height))
    for index, colour in enumerate(own):
        top = height * count + index * band
        sample.paste(colour, (0, top, sample.width, top + band))
    palette = sample.quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    indexed[0].save(
        path, "GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=False
    )
