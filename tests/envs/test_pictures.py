"""Pictures: every kind of observation is drawn, real or imagined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from thick.envs import make
from thick.envs.pictures import MIN_IMAGE, TILE, grid_picture, image_picture, picture, vector_picture
from thick.spaces import space_to_json

WALL, DOOR, KEY, GOAL, AGENT = 2, 4, 5, 8, 10
YELLOW, GREEN, RED = 4, 1, 0


def one(thing: int, colour: int = 0, state: int = 0) -> np.ndarray:
    """The picture of a single cell."""
    return grid_picture(np.array([[[thing, colour, state]]]))


def has(image: np.ndarray, test: Callable[..., np.ndarray], share: float) -> bool:
    red, green, blue = (image[..., i].astype(int) for i in range(3))
    return bool(test(red, green, blue).mean() >= share)


def test_a_grid_is_drawn_cell_by_cell_with_x_to_the_right_and_y_down() -> None:
    grid = np.full((4, 3, 3), (1, 0, 0))
    grid[3, 1] = (GOAL, GREEN, 0)
    drawn = grid_picture(grid)
    assert drawn.shape == (3 * TILE, 4 * TILE, 3)
    assert np.array_equal(drawn[TILE : 2 * TILE, 3 * TILE :], one(GOAL, GREEN))
    drawn[TILE : 2 * TILE, 3 * TILE :] = one(1)
    assert np.array_equal(drawn, np.tile(one(1), (3, 4, 1)))


def test_things_have_the_colours_people_expect() -> None:
    assert has(one(WALL, 5), lambda r, g, b: (abs(r - g) < 12) & (abs(g - b) < 12) & (r > 80), 0.95)
    assert has(one(KEY, YELLOW), lambda r, g, b: (r > 180) & (g > 150) & (b < 100), 0.1)
    assert has(one(DOOR, YELLOW, 2), lambda r, g, b: (r > 180) & (g > 150) & (b < 100), 0.15)
    assert has(one(GOAL, GREEN), lambda r, g, b: (g > 150) & (r < 110), 0.8)
    assert has(one(AGENT, RED), lambda r, g, b: (r > 180) & (g < 110), 0.15)


def test_an_open_a_closed_and_a_locked_door_and_the_four_directions_look_different() -> None:
    for thing, states in ((DOOR, 3), (AGENT, 4)):
        drawn = [one(thing, RED, state).astype(int) for state in range(states)]
        for i in range(states):
            for j in range(i):
                assert (abs(drawn[i] - drawn[j]).max(-1) > 60).mean() > 0.04


def test_the_agent_points_where_it_looks() -> None:
    for state, (dy, dx) in enumerate([(0, 1), (1, 0), (0, -1), (-1, 0)]):
        red = one(AGENT, RED, state)[..., 0].astype(float)
        red = np.where(red > 150, 1.0, 0.0)
        half = TILE // 2
        edge = {(0, 1): red[:, -5:], (1, 0): red[-5:], (0, -1): red[:, :5], (-1, 0): red[:5]}[dy, dx]
        spread = np.flatnonzero(edge.max(axis=0 if dx == 0 else 1))
        assert len(spread) > 0 and abs(spread.mean() - half) < 2 and len(spread) <= 7  # a tip, in the middle


def test_imagined_cells_that_no_simulator_shows_are_drawn_too() -> None:
    everything = np.stack(np.meshgrid(range(-1, 13), range(-1, 8), range(6), indexing="ij"), -1).reshape(
        14, -1, 3
    )
    assert grid_picture(everything, tile=8).shape == (54 * 8, 14 * 8, 3)
    assert np.array_equal(grid_picture(np.array([[[4.9, 4.1, 1.8]]])), one(KEY, YELLOW, 2))
    assert np.array_equal(grid_picture(np.array([[[np.nan, np.inf, -np.inf]]])), one(0))


def test_images_are_enlarged_with_sharp_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    drawn = image_picture(image)
    assert drawn.shape == (MIN_IMAGE, MIN_IMAGE, 3)
    assert np.array_equal(drawn[::4, ::4], image) and np.array_equal(drawn[3::4, 3::4], image)


def test_a_decoded_image_of_floats_is_clipped_and_rounded() -> None:
    image = np.zeros((64, 64, 3), np.float32)
    image[0, 0] = (-20, 300, 99.6)
    image[0, 1] = np.nan
    drawn = image_picture(image)
    assert drawn.dtype == np.uint8
    assert drawn[0, 0].tolist() == [0, 255, 100] and not drawn[0, 4].any()


def blue(image: np.ndarray) -> np.ndarray:
    return (image[..., 2].astype(int) - image[..., 0]) > 80


def orange(image: np.ndarray) -> np.ndarray:
    return (image[..., 0].astype(int) - image[..., 2]) > 80


def test_bars_grow_with_the_value_to_the_right_above_zero_and_to_the_left_below() -> None:
    lengths = [blue(vector_picture({"x": [v]})).any(0).sum() for v in (0.2, 1.0, 5.0, np.inf)]
    assert lengths == sorted(set(lengths))
    assert not orange(vector_picture({"x": [1.0]})).any()
    below = vector_picture({"x": [-1.0]})
    assert orange(below).any() and not blue(below).any()
    assert (
        np.flatnonzero(orange(below).any(0)).max()
        <= np.flatnonzero(blue(vector_picture({"x": [1]})).any(0)).min()
    )
    zero = vector_picture({"x": [0.0]})
    assert not blue(zero).any() and not orange(zero).any()


def test_a_chart_has_a_row_for_every_number_and_keeps_its_layout_from_frame_to_frame() -> None:
    small = vector_picture({"position": np.zeros(3), "velocity": np.zeros(2)})
    assert small.shape == vector_picture({"position": np.full(3, 1e9), "velocity": np.full(2, -3)}).shape
    assert small.shape[0] > vector_picture({"position": np.zeros(3)}).shape[0]
    assert vector_picture({"joints": np.zeros(100)}).shape[0] < 1500
    assert vector_picture({"x": [np.nan]}).shape == vector_picture({"x": [1.0]}).shape


@pytest.mark.parametrize(
    "env_id",
    [
        "minigrid:MiniGrid-DoorKey-8x8-v0",
        "minigrid:MiniGrid-DoorKey-8x8-v0+map",
        "dm_control:walker-walk",
        "pinpad:three",
    ],
)
def test_every_observation_is_drawn_from_its_space_or_the_json_form_of_it(env_id: str) -> None:
    env = make(env_id, seed=0)
    observation, _ = env.reset()
    drawn = picture(observation, env.observation_space)
    assert drawn.dtype == np.uint8 and drawn.ndim == 3 and drawn.shape[-1] == 3
    assert drawn.std() > 5
    assert np.array_equal(drawn, picture(observation, space_to_json(env.observation_space)))


def test_a_dict_of_several_kinds_is_drawn_side_by_side() -> None:
    space = Dict(eyes=Box(0, 255, (64, 64, 3), np.uint8), legs=Box(-1, 1, (4,)), arms=Box(-1, 1, (2,)))
    drawn = picture({"eyes": np.zeros((64, 64, 3)), "legs": np.ones(4), "arms": np.ones(2)}, space)
    assert drawn.shape == (MIN_IMAGE, MIN_IMAGE + 8 + 320, 3)
    assert blue(drawn[:, MIN_IMAGE:]).any()


def test_a_wrong_observation_is_named() -> None:
    space = Dict(eyes=Box(0, 255, (64, 64, 3), np.uint8), legs=Box(-1, 1, (4,)))
    with pytest.raises(ValueError, match=r"expected a dict with \['eyes', 'legs'\], got \['eyes'\]"):
        picture({"eyes": np.zeros((64, 64, 3))}, space)
    with pytest.raises(ValueError, match=r"observation.legs: expected shape \(4,\), got \(3,\)"):
        picture({"eyes": np.zeros((64, 64, 3)), "legs": np.zeros(3)}, space)
    with pytest.raises(ValueError, match=r"observation: expected shape \(64, 64, 3\), got \(3, 64, 64\)"):
        picture(np.zeros((3, 64, 64)), space["eyes"])


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (Box(0, 255, (84, 84, 1), np.uint8), (336, 336, 3)),
        (Box(0, 255, (64, 64, 4), np.uint8), (256, 256, 3)),
        (Box(0, 255, (16, 16, 12), np.uint8), (256, 256, 3)),
        (Box(0.0, 1.0, (64, 64, 3), np.float32), (256, 256, 3)),
        (Box(0, 9, (16, 14, 1), np.uint8), (14 * TILE, 16 * TILE, 3)),
        (Discrete(4), None),
        (MultiDiscrete([3, 4]), None),
        (MultiBinary(3), None),
        (Dict({"a": Discrete(3), "b": Box(0, 1, (2,), np.bool_)}), None),
    ],
    ids=str,
)
def test_every_kind_of_observation_can_be_drawn(space: gymnasium.Space, shape: Any) -> None:
    space.seed(0)
    drawn = picture(space.sample(), space)
    assert drawn.dtype == np.uint8 and drawn.shape[-1] == 3
    assert shape is None or drawn.shape == shape


def test_the_picture_of_a_long_vector_has_a_limit() -> None:
    assert vector_picture({"x": np.zeros(12_288)}).shape[0] < 1000
