"""Kinds of observations, and spaces as JSON."""

from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thick.envs import make
from thick.envs.kinds import categories_of, kind_of, kinds_of, scale_of
from thick.envs.spaces import space_from_json
from thick.spaces import DTYPES, space_to_json

IMAGE = Box(0, 255, (64, 64, 3), np.uint8)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Boxes of every dtype that can travel, bounds equal, mixed or missing."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=3))
    numbers: Any = None
    if dtype.kind == "f":
        numbers = st.floats(width=dtype.itemsize * 8, allow_nan=False, allow_infinity=True)
    one, two = (draw(hnp.arrays(dtype, shape, elements=numbers)) for _ in range(2))
    if dtype.kind == "f":  # a lower bound cannot be +inf, nor an upper one -inf
        both = np.isinf(one) & (one == two)
        one = np.where(both, 0, one)
    low, high = (np.asarray(bound, dtype) for bound in (np.minimum(one, two), np.maximum(one, two)))
    return Box(low, high, shape, dtype)


@st.composite
def multi_discretes(draw: st.DrawFn) -> MultiDiscrete:
    """Of any shape and start."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3))
    nvec = draw(hnp.arrays(np.int64, shape, elements=st.integers(1, 9)))
    return MultiDiscrete(nvec, start=draw(hnp.arrays(np.int64, shape, elements=st.integers(-9, 9))))


spaces = st.recursive(
    boxes() | st.builds(Discrete, st.integers(1, 1000), start=st.integers(-50, 50)) | multi_discretes(),
    lambda inner: st.builds(
        Dict, st.dictionaries(st.text(min_size=1, max_size=5), inner, min_size=1, max_size=3)
    ),
    max_leaves=4,
)


@given(spaces)
def test_any_space_survives_the_way_through_strict_json(space: gymnasium.Space) -> None:
    text = json.dumps(space_to_json(space), allow_nan=False)
    assert space_from_json(json.loads(text)) == space


@pytest.mark.parametrize(
    ("env_id", "kinds"),
    [
        ("minigrid:MiniGrid-DoorKey-5x5-v0", {"": "grid"}),
        ("minigrid:MiniGrid-DoorKey-8x8-v0+map", {"": "grid"}),
        ("dm_control:cartpole-swingup", {"position": "vector", "velocity": "vector"}),
        ("dm_control:walker-walk", {"orientations": "vector", "height": "vector", "velocity": "vector"}),
        ("pinpad:four", {"": "image"}),
    ],
)
def test_every_family_has_observations_of_a_known_kind(env_id: str, kinds: dict[str, str]) -> None:
    space = make(env_id).observation_space
    assert kinds_of(space) == kinds
    assert kinds_of(space_to_json(space)) == kinds


def test_categories_are_one_more_than_the_highest_value_of_each_channel() -> None:
    assert categories_of(make("minigrid:MiniGrid-DoorKey-5x5-v0+full").observation_space) == (11, 6, 4)
    with pytest.raises(ValueError, match="only a grid"):
        categories_of(IMAGE)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (Box(0, 255, (3, 64, 64), np.uint8), "channels last"),
        (Box(0, 1, (1, 84, 84), np.float32), "channels last"),
        (Box(0, 255, (200, 200), np.uint8), "40000 numbers are too many for a vector"),
        (Box(-np.inf, np.inf, (120, 120, 3), np.float32), "43200 numbers are too many"),
        (Box(0, 1, (0, 3), np.float32), r"shape \(0, 3\) holds no numbers"),
        (Discrete(5000), "5000 categories are too many"),
        (MultiDiscrete([3000, 3000]), "6000 categories are too many"),
        (Dict(a=IMAGE), "ask for each of its entries"),
        (gymnasium.spaces.Text(5), "expected a Box, .* got Text"),
        (gymnasium.spaces.Sequence(Discrete(2)), "expected a Box, .* got Sequence"),
    ],
)
def test_a_space_without_a_kind_says_why(space: gymnasium.Space, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kind_of(space)


def test_a_wrong_entry_of_a_dict_is_named() -> None:
    with pytest.raises(ValueError, match=r"^legs: .*no numbers"):
        kinds_of(Dict(eyes=IMAGE, legs=Box(0, 1, (0,))))


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (IMAGE, "image"),
        (Box(0, 255, (16, 20, 1), np.uint8), "image"),
        (Box(0, 255, (480, 640, 4), np.uint8), "image"),
        (Box(0, 255, (84, 84, 12), np.uint8), "image"),
        (Box(0.0, 1.0, (64, 64, 3), np.float32), "image"),
        (Box(-1.0, 1.0, (84, 84, 1), np.float64), "image"),
        (Box(0, 255, (7, 7, 3), np.uint8), "vector"),
        (Box(-np.inf, np.inf, (64, 64, 3), np.float32), "vector"),
        (Box(0, 9, (4, 4, 1), np.uint8), "grid"),
        (Box(1, 9, (4, 4, 3), np.uint8), "vector"),
        (Box(0, np.arange(12, dtype=np.uint8).reshape(2, 2, 3), dtype=np.uint8), "vector"),
        (Box(0, 9, (4,), np.int64), "vector"),
        (Box(0, 1, (4,), np.bool_), "bits"),
        (MultiBinary(4), "bits"),
        (MultiBinary([4, 2]), "bits"),
        (Discrete(3, start=7), "categories"),
        (MultiDiscrete([3, 4]), "categories"),
    ],
    ids=str,
)
def test_a_space_has_the_kind_that_reads_it_best_whether_built_or_as_json(
    space: gymnasium.Space, kind: str
) -> None:
    assert kind_of(space) == kind_of(space_to_json(space)) == kind


def test_only_bounds_that_say_something_about_the_scale_are_used() -> None:
    assert scale_of(Box(-4.8, 4.8, (2,))) is None
    assert scale_of(Box(-np.inf, np.inf, (2,))) is None
    assert scale_of(Box(-3.4e38, 3.4e38, (2,))) is None
    assert scale_of(Box(-(2**31), 2**31 - 1, (2,), np.int32)) is None
    found = scale_of(Box(np.array([0.0, -1.0]), np.array([100.0, 1.0]), dtype=np.float64))
    assert found is not None
    assert [part.tolist() for part in found] == [[50.0, 0.0], [50.0, 1.0]]


def test_a_multi_binary_travels_as_the_box_that_it_equals() -> None:
    assert space_from_json(space_to_json(MultiBinary([2, 3]))) == Box(0, 1, (2, 3), np.int8)
