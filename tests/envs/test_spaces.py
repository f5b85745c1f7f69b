"""Kinds of observations, and spaces as JSON."""

from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thick.envs import make
from thick.envs.spaces import DTYPES, categories_of, kind_of, kinds_of, space_from_json, space_to_json

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


spaces = st.recursive(
    boxes()
    | st.builds(Discrete, st.integers(1, 1000))
    | st.builds(MultiDiscrete, st.lists(st.integers(1, 9), min_size=1, max_size=4)),
    lambda inner: st.builds(
        Dict, st.dictionaries(st.text(min_size=1, max_size=5), inner, min_size=1, max_size=3)
    ),
    max_leaves=4,
)


@given(spaces)
def test_any_space_survives_the_way_through_strict_json(space: gymnasium.Space) -> None:
    text = json.dumps(space_to_json(space), allow_nan=False)
    assert space_from_json(json.loads(text)) == space


def test_bounds_are_scalars_where_equal_and_null_where_unbounded() -> None:
    assert space_to_json(IMAGE) == {
        "type": "Box",
        "shape": [64, 64, 3],
        "dtype": "uint8",
        "low": 0,
        "high": 255,
    }
    free = space_to_json(Box(-np.inf, np.inf, (2,), np.float32))
    assert (free["low"], free["high"]) == (None, None)
    mixed = space_to_json(Box(np.array([-1, -np.inf]), np.array([np.inf, 2.5]), dtype=np.float64))
    assert (mixed["low"], mixed["high"]) == ([-1.0, None], [None, 2.5])


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
        (Box(0, 255, (32, 32, 3), np.uint8), r"must be \(64, 64, 3\), got \(32, 32, 3\)"),
        (Box(0, 255, (3, 64, 64), np.uint8), "channels last"),
        (Box(0, np.arange(12, dtype=np.uint8).reshape(2, 2, 3), dtype=np.uint8), "one high below 255"),
        (Box(1, 9, (4, 4, 3), np.uint8), "low 0"),
        (Box(0, 9, (4,), np.int64), "neither image nor grid nor floats"),
        (Discrete(3), "expected a Box, got Discrete"),
        (Dict(a=IMAGE), "ask for each of its entries"),
    ],
)
def test_a_space_without_a_kind_says_why(space: gymnasium.Space, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kind_of(space)


def test_a_wrong_entry_of_a_dict_is_named() -> None:
    with pytest.raises(ValueError, match=r"^legs: .*Discrete"):
        kinds_of(Dict(eyes=IMAGE, legs=Discrete(4)))


BOX = {"type": "Box", "shape": [2], "dtype": "float32", "low": -1.0, "high": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"type": "box"}, r"space.type: expected one of Box.*got 'box'; did you mean Box\?"),
        ([], "space: expected an object with a 'type', got list"),
        ({**BOX, "shape": [2, -1]}, r"space.shape: .*whole numbers"),
        ({**BOX, "dtype": "complex64"}, "space.dtype: expected one of bool"),
        ({**BOX, "low": [0.0]}, r"space.low: expected a number or shape \(2,\), got shape \(1,\)"),
        ({**BOX, "low": float("-inf")}, "space.low: expected finite numbers; null says unbounded"),
        ({**BOX, "low": float("nan")}, "space.low: expected finite numbers"),
        ({**BOX, "low": "0"}, "space.low: expected numbers or null"),
        ({**BOX, "low": 0.5}, "low lies above high"),
        ({**BOX, "extra": 1}, r"unknown \['extra'\]"),
        ({"type": "Box", "shape": [2], "dtype": "uint8", "low": 0, "high": None}, "whole uint8 numbers"),
        ({"type": "Box", "shape": [2], "dtype": "uint8", "low": 0, "high": 256}, "whole uint8 numbers"),
        ({"type": "Discrete", "n": 0}, "space.n: expected a whole number above 0, got 0"),
        ({"type": "Discrete"}, r"missing \['n'\]"),
        ({"type": "MultiDiscrete", "nvec": [2, 0]}, "space.nvec"),
        ({"type": "Dict", "spaces": {"legs": {"type": "Discrete", "n": True}}}, "space.legs.n: expected"),
    ],
)
def test_a_wrong_form_is_refused_with_the_place_and_what_was_expected(form: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        space_from_json(form)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (Discrete(3, start=1), "start at 0"),
        (MultiDiscrete([2, 2], start=[0, 1]), "start at 0"),
        (gymnasium.spaces.Text(4), "Text: expected a Box"),
    ],
)
def test_a_space_that_cannot_travel_says_so(space: gymnasium.Space, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        space_to_json(space)
