"""Films and contact sheets: everything that was imagined is on the page, marks stand where they belong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.episodes import Moment
from clients.pictures import Film, drawer
from clients.results import Decision, HighPlan, Imagination, ImaginedStep, Plan, Rollout
from service.protocol.pictures import drawing
from service.protocol.pictures.sheets import Sheet, action_text, contact_sheet, imagination_film
from thick.spaces import Box, make_box

SPACE = make_box((64, 64, 3), np.uint8, 0, 255)
DRAW = drawer(SPACE)
COLOURS = [(251, 3, 7), (5, 249, 11), (13, 17, 247), (201, 101, 53), (91, 203, 179)]


def plain(colour: tuple[int, int, int]) -> np.ndarray:
    """A picture of one colour."""
    return np.full((64, 64, 3), colour, np.uint8)


def area(image: Image.Image, colour: tuple[int, int, int]) -> int:
    """Pixels of exactly this colour."""
    return int((np.asarray(image.convert("RGB")) == colour).all(-1).sum())


def top_of(image: Image.Image, colour: tuple[int, int, int]) -> int:
    """The first row with this colour."""
    return int((np.asarray(image) == colour).all(-1).any(1).argmax())


def jump(action: int, probability: float, subgoal: Any, after: Any) -> ImaginedStep:
    return ImaginedStep(
        high_action=action, probability=probability, duration=4.2, reward=0.0, value=0.5, continuation=0.9,
        subgoal=plain(subgoal), observation=plain(after),
    )  # fmt: skip


HIGH = Imagination(
    "high",
    [
        Rollout([jump(0, 0.2, COLOURS[0], COLOURS[1])]),
        Rollout([jump(1, 0.7, COLOURS[2], COLOURS[3]), jump(0, 0.5, COLOURS[2], COLOURS[3])]),
    ],
)


def test_every_subgoal_and_what_follows_is_on_the_sheet() -> None:
    sheet = contact_sheet(HIGH, Sheet("title", "subtitle", DRAW, now=plain(COLOURS[4])))
    tile = 128 * 128  # 64 pixels, doubled
    areas = [area(sheet, colour) for colour in COLOURS]
    assert areas[:4] == [tile, tile, 2 * tile, 2 * tile]
    assert areas[4] == (3 * 64) ** 2


def test_the_most_probable_action_stands_first() -> None:
    sheet = contact_sheet(HIGH, Sheet("title", "subtitle", DRAW))
    assert top_of(sheet, COLOURS[2]) < top_of(sheet, COLOURS[0])


def test_the_subgoal_stands_left_of_what_follows() -> None:
    pixels = np.asarray(contact_sheet(HIGH, Sheet("title", "subtitle", DRAW)))
    left = [(pixels == colour).all(-1).any(0).argmax() for colour in COLOURS[:2]]
    assert left[0] < left[1]


def low_step(colour: tuple[int, int, int], changed: bool) -> ImaginedStep:
    return ImaginedStep(action=1, reward=0.25, context_changed=changed, observation=plain(colour))


def test_a_low_level_sheet_has_every_step_and_frames_the_context_changes() -> None:
    def drawn(changed: bool) -> Image.Image:
        steps = [low_step(COLOURS[i % 5], changed) for i in range(10)]
        return contact_sheet(Imagination("low", [Rollout(steps)]), Sheet("t", "s", DRAW))

    quiet, changing = drawn(False), drawn(True)
    assert all(area(quiet, colour) == 2 * 108 * 108 for colour in COLOURS)  # a tile, filled
    assert area(changing, drawing.ORANGE) > area(quiet, drawing.ORANGE)


@pytest.mark.parametrize("imagination", [Imagination("high"), Imagination("low", [Rollout([])])])
def test_an_empty_imagination_is_an_empty_page_not_an_error(imagination: Imagination) -> None:
    assert contact_sheet(imagination, Sheet("t", "s", DRAW)).width >= 640


def test_steps_without_pictures_are_drawn_with_their_facts() -> None:
    bare = Imagination("high", [Rollout([ImaginedStep(high_action=1)])])
    assert contact_sheet(bare, Sheet("t", "s", DRAW)).height > 100


def test_an_imagined_film_shows_now_then_each_picture_of_the_likeliest_future() -> None:
    frames = imagination_film(HIGH, Sheet("t", "s", DRAW, now=plain(COLOURS[4])))
    shown = [COLOURS[4], COLOURS[2], COLOURS[3], COLOURS[2], COLOURS[3]]
    assert [area(frame, colour) for frame, colour in zip(frames, shown, strict=True)] == [320 * 320] * 5


def moment(step: int, *, changed: bool = False, events: tuple[str, ...] = (), subgoal: Any = None) -> Moment:
    high = HighPlan(subgoal=subgoal) if subgoal is not None else None
    plan = Plan("hierarchical", context_changed=changed, gates_open=2, high=high)
    return Moment(step, plain(COLOURS[0]), Decision("s", step, 1, plan=plan), 1, 0.0, 0.5, None, events)


def test_a_film_marks_context_changes_and_events_from_when_they_happen() -> None:
    film = Film(SPACE, ("left", "right"), title="t")
    for each in (
        moment(0),
        moment(1),
        moment(2, changed=True),
        moment(3),
        moment(4, events=("pickup",)),
        moment(5),
    ):
        film(each)
    frames = film.frames()
    orange = [area(frame, drawing.ORANGE) for frame in frames]
    green = [area(frame, drawing.GREEN) for frame in frames]
    assert orange[0] == orange[1] < orange[2]
    assert orange[5] > orange[1]  # the mark stays on the line
    assert green[3] == green[0] < green[5] <= green[4]


def test_a_film_keeps_the_last_subgoal_in_view() -> None:
    film = Film(SPACE, None, title="t")
    for each in (moment(0), moment(1, subgoal=plain(COLOURS[1])), moment(2)):
        film(each)
    areas = [area(frame, COLOURS[1]) for frame in film.frames()]
    assert areas == [0, 192 * 192, 192 * 192]


def test_the_end_of_a_film_shows_how_it_went(tmp_path: Any) -> None:
    film = Film(SPACE, None, title="t")
    film(moment(0))
    film(Moment(1, plain(COLOURS[0]), None, None, 1.0, 1.0, True, ("goal",)))
    film.save(tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as image:
        assert getattr(image, "n_frames", 1) == 2
        image.seek(1)
        assert image.info["duration"] >= 1000
    with pytest.raises(ValueError, match="the film has no pictures yet"):
        Film(SPACE, None, title="t").save(tmp_path / "empty.gif")


def test_a_scene_drawn_by_the_simulator_takes_the_place_of_numbers() -> None:
    film = Film(make_box((3,), np.float32, -1, 1), None, title="t")
    scene = np.full((240, 320, 3), COLOURS[1], np.uint8)
    film(Moment(0, np.zeros(3, np.float32), None, np.float32([0.5]), 0.0, 0.0, None, (), scene))
    assert area(film.frames()[0], COLOURS[1]) == 320 * 240


@pytest.mark.parametrize("shape", [(5, 5), (8, 8), (16, 4)])
def test_grids_of_any_size_fill_their_box_without_leaving_it(shape: tuple[int, int]) -> None:
    space: Box = make_box((*shape, 3), np.uint8, 0, np.broadcast_to([10, 5, 3], (*shape, 3)))
    image = drawing.fit(drawer(space)(np.full((*shape, 3), 2, np.uint8)), 132, 132)
    assert 100 <= max(image.size) <= 132
    assert image.width * shape[1] == image.height * shape[0]


def test_numbers_are_short_and_never_minus_zero() -> None:
    assert [drawing.number(value) for value in (None, -0.001, 0.256, -1.5, 123.4)] == [
        "–", "0.00", "0.26", "-1.50", "123",
    ]  # fmt: skip


def test_actions_are_reported_in_the_environment_s_words() -> None:
    assert action_text(1, ("left", "right")) == "right"
    assert action_text(np.int64(1), None) == "action 1"
    assert action_text(np.float32([0.25, -1]), None) == "[0.25 -1.00]"
