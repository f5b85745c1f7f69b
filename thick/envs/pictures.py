"""Pictures of observations, real or imagined: images, symbolic grids, vectors.

Needs numpy and Pillow only: no simulator, so that a thin client can draw what a model decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from thick.envs.kinds import MOST_CHANNELS, image_range, kind_of, shape_of

if TYPE_CHECKING:
    import gymnasium

Array = np.ndarray[Any, Any]
Colour = tuple[int, int, int]

TILE = 32
"""Pixels a grid cell."""
MOST_BARS = 64
"""Numbers of a chart."""
MIN_IMAGE = 256
"""Images are enlarged by a whole factor to at least this width."""

_FLOOR: Colour = (24, 26, 31)
_LINE: Colour = (52, 55, 63)
_WALL: Colour = (128, 131, 138)
# red, green, blue, purple, yellow, grey: MiniGrid's order
_COLOURS: tuple[Colour, ...] = (
    (229, 62, 62),
    (72, 187, 86),
    (66, 124, 230),
    (160, 82, 214),
    (245, 204, 52),
    (150, 152, 158),
)
_OVERSAMPLE = 4
_PALETTE = np.array(
    (
        (250, 250, 248),
        (96, 99, 106),
        (38, 41, 48),
        *_COLOURS[:5],
        (60, 190, 200),
        (226, 110, 60),
        (150, 200, 110),
        (240, 160, 190),
    ),
    np.uint8,
)
"""colours of categories that have no picture of their own"""

_PAPER: Colour = (250, 250, 248)
_INK: Colour = (45, 48, 56)
_FAINT: Colour = (214, 216, 220)
_BARS: tuple[Colour, Colour] = (_COLOURS[2], (226, 110, 60))
"""bars above and below zero"""


def picture(observation: Any, space: gymnasium.Space[Any] | Mapping[str, Any], *, tile: int = TILE) -> Array:
    """Draws one observation, uint8 [h, w, 3].

    Args:
        observation: one array, or a dict of arrays for a Dict space; decoded ones may be of any
            number type and may hold combinations that no simulator shows.
        space: gymnasium space or its JSON form: decides how to draw (`kind_of`).
        tile: pixels a grid cell.

    Raises:
        ValueError: keys or shape differ from the space's.
    """
    entries = _entries(space)
    if entries is None:
        return _one(observation, space, name="", tile=tile)
    if not isinstance(observation, Mapping) or set(observation) != set(entries):
        got = sorted(observation) if isinstance(observation, Mapping) else type(observation).__name__
        raise ValueError(f"observation: expected a dict with {sorted(entries)}, got {got}")
    parts, vectors = [], {}
    for name, part in entries.items():
        if kind_of(part) not in ("image", "grid"):  # all numbers share one chart
            vectors[name] = np.asarray(observation[name])
            _check(vectors[name], part, name)
        else:
            parts.append(_one(observation[name], part, name=name, tile=tile))
    if vectors:
        parts.append(vector_picture(vectors))
    return _side_by_side(parts)


def grid_picture(grid: Any, *, tile: int = TILE) -> Array:
    """Draws a symbolic grid [W, H, 3], indexed [x, y], as tiles: uint8 [H*tile, W*tile, 3].

    The channels are object, colour and state in MiniGrid's numbers (see thick.envs.minigrid); unknown
    objects are drawn as unseen cells.
    """
    cells = np.clip(np.rint(np.nan_to_num(np.asarray(grid, np.float64))), -1, 11).astype(np.int64)
    if cells.ndim != 3 or cells.shape[-1] != 3:
        raise ValueError(f"grid: expected [W, H, 3], got {cells.shape}")
    rows = [
        np.concatenate([_tile(*map(int, cells[x, y]), size=tile) for x in range(cells.shape[0])], axis=1)
        for y in range(cells.shape[1])
    ]
    return np.concatenate(rows, axis=0)


def cells_picture(cells: Any, *, tile: int = TILE) -> Array:
    """Draws a grid of categories [W, H, C] that are not MiniGrid's: one colour for each number of the first channel.

    uint8 [H*tile, W*tile, 3].
    """
    numbers = np.clip(np.rint(np.nan_to_num(np.asarray(cells, np.float64)[..., 0])), 0, 255).astype(np.int64)
    small = _PALETTE[numbers.T % len(_PALETTE)]  # [H, W, 3]
    return np.ascontiguousarray(small.repeat(tile, 0).repeat(tile, 1))


def image_picture(image: Any, *, low: float = 0.0, high: float = 255.0) -> Array:
    """Enlarges an image [h, w, C] with values from low to high to at least MIN_IMAGE wide, pixels kept sharp.

    Of stacked frames the newest is drawn; transparency is not.
    """
    pixels = rgb(image, low=low, high=high)
    factor = max(1, math.ceil(MIN_IMAGE / pixels.shape[1]))
    return np.ascontiguousarray(pixels.repeat(factor, 0).repeat(factor, 1))


def rgb(image: Any, *, low: float = 0.0, high: float = 255.0) -> Array:
    """An image [h, w, C] with values from low to high as uint8 [h, w, 3], in its own size."""
    pixels = np.asarray(image)
    if pixels.ndim != 3 or not 1 <= pixels.shape[-1] <= MOST_CHANNELS:
        raise ValueError(f"image: expected [h, w, C], got {pixels.shape}: channels last")
    channels = pixels.shape[-1]
    if channels > 4:  # stacked frames
        pixels = pixels[..., -3:] if channels % 3 == 0 else pixels[..., -1:]
    elif channels != 3:
        pixels = pixels[..., :3] if channels == 4 else pixels[..., -1:]
    if pixels.dtype != np.uint8 or (low, high) != (0.0, 255.0):
        scaled = (np.nan_to_num(pixels.astype(np.float64)) - low) * (255.0 / (high - low))
        pixels = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return pixels.repeat(3, -1) if pixels.shape[-1] == 1 else pixels


def vector_picture(vectors: Mapping[str, Any], *, width: int = 320) -> Array:
    """A bar chart of named vectors: one bar a number, its value next to it, uint8 [h, width, 3].

    Of a long vector the first are drawn, MOST_BARS in all: the chart's size has a limit.

    The axis is squashed, v / (1 + |v|), so that bars keep their scale from frame to frame whatever
    the values: a full half is infinity, the thin lines stand at -1 and 1.
    """
    rows: list[tuple[str, float | None]] = [
        (f"{name}[{i}]" if np.size(values) > 1 else name, float(value))
        for name, values in vectors.items()
        for i, value in enumerate(np.asarray(values, np.float64).reshape(-1))
    ]
    if len(rows) > MOST_BARS:
        rest = len(rows) - MOST_BARS + 1
        rows = [*rows[: MOST_BARS - 1], (f"and {rest} more", None)]
    step = 18 if len(rows) <= 24 else 11  # long vectors are drawn denser
    font = _font(12 if step == 18 else 9)
    label = max((font.getlength(name) for name, _ in rows), default=0.0)
    left, right = round(min(label, width * 0.4)) + 16, width - (62 if step == 18 else 50)
    canvas = Image.new("RGB", (width, 12 + step * max(1, len(rows))), _PAPER)
    draw = ImageDraw.Draw(canvas)
    middle, half = (left + right) / 2, (right - left) / 2
    bottom = canvas.height - 7
    for place, shade in ((-0.5, _FAINT), (0.0, (150, 152, 158)), (0.5, _FAINT)):
        x = round(middle + half * place)
        draw.line((x, 4, x, bottom), fill=shade)
    for index, (name, value) in enumerate(rows):
        top = 6 + step * index
        centre = top + step / 2
        draw.text((left - 8, centre), _shorten(name, font, left - 14), fill=_INK, font=font, anchor="rm")
        if value is None:
            continue
        if math.isnan(value):
            draw.text((width - 8, centre), "nan", fill=_BARS[1], font=font, anchor="rm")
            continue
        squashed = math.copysign(1.0, value) if math.isinf(value) else value / (1 + abs(value))
        end = middle + half * squashed
        box = (round(min(middle, end)), top + 3, round(max(middle, end)), top + step - 4)
        if abs(end - middle) >= 0.5:
            draw.rectangle(box, fill=_BARS[0] if value > 0 else _BARS[1])
        draw.text((width - 8, centre), f"{value:.3g}", fill=_INK, font=font, anchor="rm")
    return np.asarray(canvas)


def _entries(space: Any) -> dict[str, Any] | None:
    """The entries of a Dict space, of gymnasium or in JSON; None for any other space."""
    if hasattr(space, "sample"):
        return dict(space.spaces) if type(space).__name__ == "Dict" else None
    return dict(space["spaces"]) if space.get("type") == "Dict" else None


def _check(array: Array, space: Any, name: str) -> None:
    shape = shape_of(space)
    if array.shape != shape:
        raise ValueError(f"observation{'.' * bool(name)}{name}: expected shape {shape}, got {array.shape}")


def _one(observation: Any, space: Any, *, name: str, tile: int) -> Array:
    array = np.asarray(observation)
    _check(array, space, name)
    kind = kind_of(space)
    if kind == "grid":
        minigrid = shape_of(space)[-1] == 3
        return grid_picture(array, tile=tile) if minigrid else cells_picture(array, tile=tile)
    if kind == "image":
        low, high = image_range(space)
        return image_picture(array, low=low, high=high)
    return vector_picture({name or "value": array})


def _side_by_side(parts: list[Array], gap: int = 8) -> Array:
    """Pictures side by side, centred, on paper."""
    if len(parts) == 1:
        return parts[0]
    height = max(part.shape[0] for part in parts)
    canvas = np.empty((height, sum(part.shape[1] + gap for part in parts) - gap, 3), np.uint8)
    canvas[:] = _PAPER
    x = 0
    for part in parts:
        y = (height - part.shape[0]) // 2
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
        x += part.shape[1] + gap
    return canvas


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _shorten(text: str, font: Any, room: float) -> str:
    while len(text) > 1 and font.getlength(text) > room:
        text = text[:-2] + "…"
    return text


# --- tiles: drawn once each in a unit square, oversampled, then reduced ---------------------------


class _Pen:
    """Draws in units of the tile's side, whatever its size in pixels."""

    def __init__(self, size: int, ground: Colour) -> None:
        self.size = size
        self.side = size * _OVERSAMPLE
        self.image = Image.new("RGB", (self.side, self.side), ground)
        self.draw = ImageDraw.Draw(self.image)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        n = self.side
        self.draw.rectangle((x0 * n, y0 * n, max(x0 * n, x1 * n - 1), max(y0 * n, y1 * n - 1)), fill=fill)

    def disc(self, x: float, y: float, r: float, fill: Colour) -> None:
        n = self.side
        self.draw.ellipse(((x - r) * n, (y - r) * n, (x + r) * n, (y + r) * n), fill=fill)

    def shape(self, *points: tuple[float, float], fill: Colour) -> None:
        self.draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=fill)

    def frame(self) -> None:
        """The thin line between cells."""
        edge = 1 / 40
        self.box(0, 0, 1, edge, _LINE)
        self.box(0, 0, edge, 1, _LINE)

    def done(self) -> Array:
        return np.asarray(self.image.resize((self.size, self.size), Image.Resampling.LANCZOS))


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


@cache
def _tile(thing: int, colour: int, state: int, *, size: int) -> Array:
    """One cell; states beyond a thing's own are read modulo their number."""
    paint = _COLOURS[colour] if 0 <= colour < len(_COLOURS) else _COLOURS[-1]
    draw = _THINGS.get(thing, _unseen)
    pen = _Pen(size, _FLOOR)
    if draw not in (_wall, _unseen):
        pen.frame()
    draw(pen, paint, state)
    return pen.done()


def _unseen(pen: _Pen, paint: Colour, state: int) -> None:
    pen.box(0, 0, 1, 1, (70, 72, 80))
    for k in range(-3, 4):  # hatching
        pen.shape((k / 3, 1), (k / 3 + 0.1, 1), (k / 3 + 1.1, 0), (k / 3 + 1, 0), fill=(84, 86, 95))


def _empty(pen: _Pen, paint: Colour, state: int) -> None:
    """Bare floor: the ground and its frame are all there is."""


def _wall(pen: _Pen, paint: Colour, state: int) -> None:
    pen.box(0, 0, 1, 1, _mix(_WALL, (0, 0, 0), 0.25))
    seam = 0.03
    for top, starts in ((0.0, (0.0, 0.5)), (0.5, (-0.25, 0.25, 0.75))):  # two courses of bricks
        for x in starts:
            pen.box(max(0.0, x + seam), top + seam, min(1.0, x + 0.5 - seam), top + 0.5 - seam, _WALL)


def _floor(pen: _Pen, paint: Colour, state: int) -> None:
    pen.box(0.025, 0.025, 1, 1, _mix(_FLOOR, paint, 0.3))


def _door(pen: _Pen, paint: Colour, state: int) -> None:
    dark = _mix(paint, (0, 0, 0), 0.55)
    state %= 3
    if state == 0:  # open: the leaf stands at the side, the way is free
        pen.box(0.04, 0.02, 0.96, 0.98, _mix(_FLOOR, paint, 0.16))
        pen.box(0.04, 0.02, 0.96, 0.08, dark)
        pen.box(0.04, 0.92, 0.96, 0.98, dark)
        pen.box(0.04, 0.02, 0.2, 0.98, paint)
        pen.box(0.08, 0.06, 0.16, 0.94, dark)
        return
    pen.box(0.04, 0.02, 0.96, 0.98, paint)
    pen.box(0.1, 0.08, 0.9, 0.92, dark if state == 2 else _FLOOR)
    if state == 1:  # closed: planks and a handle
        pen.box(0.16, 0.14, 0.84, 0.86, _mix(paint, _FLOOR, 0.45))
        pen.disc(0.72, 0.5, 0.08, paint)
    else:  # locked: a keyhole
        pen.disc(0.5, 0.42, 0.13, paint)
        pen.shape((0.5, 0.4), (0.62, 0.74), (0.38, 0.74), fill=paint)


def _key(pen: _Pen, paint: Colour, state: int) -> None:
    pen.disc(0.56, 0.27, 0.19, paint)
    pen.disc(0.56, 0.27, 0.09, _FLOOR)
    pen.box(0.5, 0.4, 0.62, 0.9, paint)
    pen.box(0.34, 0.6, 0.5, 0.68, paint)
    pen.box(0.34, 0.8, 0.5, 0.88, paint)


def _ball(pen: _Pen, paint: Colour, state: int) -> None:
    pen.disc(0.51, 0.51, 0.31, paint)
    pen.disc(0.41, 0.4, 0.08, _mix(paint, (255, 255, 255), 0.55))


def _box(pen: _Pen, paint: Colour, state: int) -> None:
    pen.box(0.14, 0.14, 0.88, 0.88, paint)
    pen.box(0.21, 0.21, 0.81, 0.81, _FLOOR)
    pen.box(0.14, 0.47, 0.88, 0.55, paint)


def _goal(pen: _Pen, paint: Colour, state: int) -> None:
    pen.box(0.025, 0.025, 1, 1, paint)
    pen.box(0.025, 0.025, 1, 0.09, _mix(paint, (255, 255, 255), 0.3))


def _lava(pen: _Pen, paint: Colour, state: int) -> None:
    pen.box(0.025, 0.025, 1, 1, (238, 116, 32))
    for y in (0.28, 0.52, 0.76):
        points = [(k / 8, y + 0.05 * math.sin(math.pi * k / 2)) for k in range(9)]
        for (xa, ya), (xb, yb) in pairwise(points):
            pen.shape((xa, ya - 0.03), (xb, yb - 0.03), (xb, yb + 0.03), (xa, ya + 0.03), fill=(80, 30, 10))


def _agent(pen: _Pen, paint: Colour, state: int) -> None:
    angle = math.pi / 2 * (state % 4)  # 0 right, then clockwise on the screen
    corners = ((0.4, 0.0), (-0.34, 0.32), (-0.2, 0.0), (-0.34, -0.32))
    turned = [
        (0.51 + x * math.cos(angle) - y * math.sin(angle), 0.51 + x * math.sin(angle) + y * math.cos(angle))
        for x, y in corners
    ]
    pen.shape(*turned, fill=paint)


_THINGS: dict[int, Callable[[_Pen, Colour, int], None]] = {
    0: _unseen,
    1: _empty,
    2: _wall,
    3: _floor,
    4: _door,
    5: _key,
    6: _ball,
    7: _box,
    8: _goal,
    9: _lava,
    10: _agent,
}
"""MiniGrid's object numbers."""
