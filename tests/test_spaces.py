"""The codec of spaces: their JSON form, read and written without gymnasium."""

from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import given

from tests.service.protocol.strategies import any_space
from thick.spaces import DEEPEST, Dict, Discrete, Space, as_space, make_box, parse_space, space_to_json


@given(any_space)
def test_the_json_form_of_a_space_gives_the_space_back(space: Space) -> None:
    form = json.loads(json.dumps(space_to_json(space), allow_nan=False))
    assert space_to_json(parse_space(form)) == form


def test_bounds_are_scalars_where_equal_and_null_where_unbounded() -> None:
    assert space_to_json(Box(0, 255, (64, 64, 3), np.uint8)) == {
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


def test_spaces_of_gymnasium_are_understood() -> None:
    space = gymnasium.spaces.Dict(
        {
            "type": gymnasium.spaces.Box(-1, 1, (2,), np.float32),
            "choice": gymnasium.spaces.Discrete(4),
            "many": gymnasium.spaces.MultiDiscrete([2, 3]),
            "free": gymnasium.spaces.Box(-np.inf, np.inf, (), np.float64),
        }
    )
    assert space_to_json(space)["spaces"] == {
        "choice": {"type": "Discrete", "n": 4},
        "free": {"type": "Box", "shape": [], "dtype": "float64", "low": None, "high": None},
        "many": {"type": "MultiDiscrete", "nvec": [2, 3]},
        "type": {"type": "Box", "shape": [2], "dtype": "float32", "low": -1.0, "high": 1.0},
    }
    moved = gymnasium.spaces.Discrete(3, start=-1)
    assert space_to_json(moved) == {"type": "Discrete", "n": 3, "start": -1}
    many = gymnasium.spaces.MultiDiscrete([[2, 3]], start=[[0, 5]])
    assert space_to_json(many) == {"type": "MultiDiscrete", "nvec": [[2, 3]], "start": [[0, 5]]}
    assert parse_space(space_to_json(many)) == as_space(many)
    bits = {"type": "Box", "shape": [3], "dtype": "int8", "low": 0, "high": 1}
    assert space_to_json(gymnasium.spaces.MultiBinary(3)) == bits


BOX = {"type": "Box", "shape": [2], "dtype": "float32", "low": -1.0, "high": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"type": "box"}, r"space.type: expected one of Box.*got 'box'; did you mean 'Box'\?"),
        ([], "space: expected an object with a 'type', got list"),
        ({**BOX, "shape": [2, -1]}, r"space.shape: .*whole numbers"),
        ({**BOX, "dtype": "complex64"}, "space.dtype: expected one of bool"),
        ({**BOX, "low": [0.0]}, r"space.low: expected a number or shape \(2,\), got shape \(1,\)"),
        ({**BOX, "low": float("-inf")}, "space.low: expected finite numbers; null says unbounded"),
        ({**BOX, "low": float("nan")}, "space.low: expected finite numbers"),
        ({**BOX, "low": "0"}, "space.low: expected numbers or null"),
        ({**BOX, "low": 0.5}, "low lies above high"),
        ({**BOX, "low": [0.0, float("nan")]}, "space.low: expected finite numbers"),
        ({**BOX, "low": -1e300}, "space.low: expected numbers within float32"),
        ({**BOX, "low": -(10**400)}, "space.low: expected numbers within float32"),
        ({**BOX, "low": [[0], [0, 1]]}, "space.low: expected"),
        ({**BOX, "shape": "2"}, "space.shape: expected a list of whole numbers"),
        ({**BOX, "shape": [2**40, 2**40]}, "space.shape: expected at most"),
        ({**BOX, "dtype": "flaot32"}, r"space.dtype: .*; did you mean 'float32'\?"),
        ({**BOX, "dtype": ["uint8"]}, "space.dtype: expected one of bool"),
        ({**BOX, "extra": 1}, r"unknown \['extra'\]"),
        ({**BOX, "hihg": 1}, r"unknown \['hihg'\]; did you mean 'high'\?"),
        ({"type": "Box", "shape": [2]}, r"space: expected a Box with .*missing \['dtype', 'low', 'high'\]"),
        ({"type": "Box", "shape": [], "dtype": "int8", "low": 0.5, "high": 1}, "whole int8 numbers"),
        (
            {"type": "Box", "shape": [], "dtype": "bool", "low": 0, "high": 2},
            "whole bool numbers from 0 to 1",
        ),
        ({"type": "Box", "shape": [], "dtype": "int64", "low": 0, "high": 2**63}, "whole int64 numbers"),
        ({"type": "Box", "shape": [], "dtype": "uint64", "low": 0, "high": 2**70}, "numbers within uint64"),
        ({"type": "Box", "shape": [2], "dtype": "uint8", "low": 0, "high": None}, "whole uint8 numbers"),
        ({"type": "Box", "shape": [2], "dtype": "uint8", "low": 0, "high": 256}, "whole uint8 numbers"),
        ({}, "space.type: expected one of Box"),
        ({"type": ["Box"]}, "space.type: expected one of Box"),
        ({"type": "Tuple"}, "space.type: expected one of Box, Discrete, MultiDiscrete, Dict, got 'Tuple'"),
        ({"type": "Discrete", "n": 0}, "space.n: expected a whole number above 0, got 0"),
        ({"type": "Discrete"}, r"missing \['n'\]"),
        ({"type": "Discrete", "n": 3, "start": 0.5}, "space.start: expected a whole number"),
        ({"type": "Discrete", "n": 2**63}, "space.n: expected a whole number"),
        ({"type": "Discrete", "n": 3, "start": 2**62}, "space.start: expected a whole number"),
        ({"type": "MultiDiscrete", "nvec": 3}, "space.nvec: expected a list"),
        ({"type": "MultiDiscrete", "nvec": [2.0, 3]}, "space.nvec: expected a list of whole numbers"),
        ({"type": "MultiDiscrete", "nvec": [2**63]}, r"space.nvec: expected whole numbers below 2\*\*62"),
        ({"type": "MultiDiscrete", "nvec": [2, 0]}, "space.nvec: expected whole numbers above 0"),
        ({"type": "MultiDiscrete", "nvec": [[2], [1, 3]]}, "space.nvec"),
        ({"type": "MultiDiscrete", "nvec": [2, 3], "start": [1]}, "space.start: expected the shape of nvec"),
        ({"type": "Dict", "spaces": []}, "space.spaces: expected an object of spaces"),
        ({"type": "Dict", "spaces": {"a": {"type": "x"}}}, r"space.spaces.a.type: expected one of"),
        (
            {"type": "Dict", "spaces": {"legs": {"type": "Discrete", "n": True}}},
            "space.spaces.legs.n: expected",
        ),
    ],
)
def test_a_wrong_form_is_refused_with_the_place_and_what_was_expected(form: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_space(form)


def test_a_space_that_cannot_travel_says_so() -> None:
    with pytest.raises(ValueError, match=r"expected a Box, .* got Text"):
        space_to_json(gymnasium.spaces.Text(4))


def test_a_client_reads_forms_with_keys_that_a_newer_server_added() -> None:
    form = {"type": "Dict", "spaces": {"choice": {"type": "Discrete", "n": 3, "names": ["a", "b", "c"]}}}
    assert parse_space(form, exact=False) == Dict({"choice": Discrete(3)})
    with pytest.raises(ValueError, match=r"answer.spaces.choice: .*unknown \['names'\]"):
        parse_space(form, path="answer")


def test_dicts_in_dicts_have_an_end() -> None:
    form: dict[str, Any] = {"type": "Discrete", "n": 2}
    for _ in range(DEEPEST + 1):
        form = {"type": "Dict", "spaces": {"a": form}}
    assert space_to_json(parse_space(form["spaces"]["a"])) == form["spaces"]["a"]
    with pytest.raises(ValueError, match="expected at most 16 Dicts in Dicts"):
        parse_space(form)


@pytest.mark.parametrize("name", ["int64", "uint64", "int8"])
def test_limits_that_floats_rounded_up_are_the_limits_of_the_dtype(name: str) -> None:
    info = np.iinfo(name)
    for low, high in ((float(info.min), float(info.max)), (-np.inf, np.inf), (info.min, info.max)):
        box = make_box((2,), name, low, high)
        assert box.unbounded, (low, high)
    assert parse_space(space_to_json(box)).high.tolist() == [info.max] * 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("dtype", "low", "high", "says"),
    [
        ("uint8", 0, 256, r"space.high: expected whole uint8 numbers from 0 to 255, got 256"),
        ("uint8", -1, 255, "space.low: expected whole uint8 numbers"),
        ("int16", 0.5, 1, "space.low: expected whole int16 numbers"),
        ("float32", 0, np.nan, "space.high: expected numbers, got NaN"),
        ("float16", 0, 1e6, "space.high: expected numbers within float16"),
        ("float32", np.inf, np.inf, "low is infinity"),
        ("float32", 1, 0, "low lies above high"),
        ("float32", [1, 2, 3], 4, "space.low: does not fit shape"),
        ("float32", "0", 4, "space.low: expected numbers"),
        ("complex64", 0, 1, "space.dtype: expected one of bool"),
    ],
)
def test_a_box_is_made_only_of_bounds_that_its_dtype_has(dtype: str, low: Any, high: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_box((2,), dtype, low, high)


def test_a_box_without_numbers_travels() -> None:
    form = space_to_json(Box(0, 1, (0, 3)))
    assert space_to_json(parse_space(form)) == form
