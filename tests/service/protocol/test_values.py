"""The checks of observations and actions against their spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.protocol import bodies, media
from service.protocol.errors import ProblemError
from service.protocol.values import decode_action, decode_observation
from tests.service.protocol.strategies import any_space, same
from thick.spaces import Box, Dict, Discrete, MultiDiscrete, Space, make_box

IMAGE = make_box((64, 64, 3), np.uint8, 0, 255)
GRID = make_box((4, 3, 3), np.uint8, 0, np.broadcast_to([10, 5, 3], (4, 3, 3)))
VECTOR = make_box((3,), np.float32, [-1.0, -np.inf, 0.0], [1.0, np.inf, np.inf])
BOTH = Dict({"image": IMAGE, "state": VECTOR})


@given(any_space, st.integers(0, 2**32), st.sampled_from(media.BODY_TYPES))
def test_members_of_a_space_pass_through_any_body_unchanged(space: Space, seed: int, media_type: str) -> None:
    member = space.sample(np.random.default_rng(seed))
    body = bodies.decode_body(bodies.encode_body({"observation": member}, media_type), media_type)
    checked = decode_observation(body["observation"], space)
    expected = np.asarray(member) if isinstance(space, Discrete) else member
    assert same(checked, expected) or _same_numbers(checked, expected)


def _same_numbers(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(_same_numbers(a[key], b[key]) for key in b)
    return bool(np.array_equal(a, b))


def test_numbers_are_checked_from_where_a_space_starts() -> None:
    assert decode_action(-1, Discrete(3, -1)) == -1
    with pytest.raises(ProblemError, match="expected an integer from -1 to 1, got 2"):
        decode_action(2, Discrete(3, -1))
    space = MultiDiscrete((2, 3), (0, 5), (1, 2))
    assert np.array_equal(decode_action([[1, 7]], space), [[1, 7]])
    with pytest.raises(ProblemError, match=r"action\[0, 1\]: expected an integer from 5 to 7, got 8"):
        decode_action([[1, 8]], space)


def test_entries_named_by_their_paths_may_be_sent_in_objects() -> None:
    number = make_box((), np.float32, -np.inf, np.inf)
    space = Dict({"robot/arm/0": number, "robot/arm/1": number, "robot/hand": number, "time": number})
    flat = {"robot/arm/0": 1.0, "robot/arm/1": 2.0, "robot/hand": 3.0, "time": 4.0}
    nested = {"robot": {"arm": [1.0, 2.0], "hand": 3.0}, "time": 4.0}
    assert decode_observation(nested, space) == decode_observation(flat, space)
    with pytest.raises(ProblemError, match="robot/hand: is missing"):
        decode_observation({"robot": {"arm": [1.0, 2.0]}, "time": 4.0}, space)


def test_a_tuple_may_be_sent_as_a_list() -> None:
    number = make_box((), np.float32, -np.inf, np.inf)
    space = Dict({"0": number, "1/0": number, "1/1": number})
    assert decode_observation([1.0, [2.0, 3.0]], space) == {"0": 1.0, "1/0": 2.0, "1/1": 3.0}
    assert _errors([1.0], space).keys() == {"observation"}
    assert _errors([1.0, [2.0]], space).keys() == {"observation.1/1"}


def _errors(value: Any, space: Space, path: str = "observation") -> dict[str, str]:
    with pytest.raises(ProblemError) as caught:
        decode_observation(value, space, path=path)
    return {error.path: error.message for error in caught.value.errors}


def test_a_picture_with_channels_first_is_reported() -> None:
    errors = _errors({"image": np.zeros((3, 64, 64), np.uint8), "state": [0, 0, 0]}, BOTH)
    assert errors == {"observation.image": "expected shape (64, 64, 3), got (3, 64, 64): channels last"}


def test_a_batch_dimension_is_reported() -> None:
    assert "without a batch dimension" in _errors(np.zeros((1, 3), np.float32), VECTOR)["observation"]


def test_every_wrong_part_is_named_at_once() -> None:
    errors = _errors({"image": np.full((64, 64, 3), 0.5), "stat": 1}, BOTH)
    assert set(errors) == {"observation.image", "observation.stat", "observation.state"}
    assert "did you mean `state`" in errors["observation.stat"]
    assert errors["observation.state"].startswith("is missing: float32 of shape (3,)")


@pytest.mark.parametrize(
    ("value", "space", "message"),
    [
        (
            np.full((64, 64, 3), 0.5, np.float32),
            IMAGE,
            "expected whole numbers from 0 to 255, got 0.5 at [0, 0, 0]; a picture scaled to 0 to 1?",
        ),
        (np.full((64, 64, 3), 7.5), IMAGE, "expected whole numbers from 0 to 255, got 7.5 at [0, 0, 0]"),
        (np.full((64, 64, 3), 256.0), IMAGE, "expected values from 0 to 255, got 256.0 at [0, 0, 0]"),
        (np.full((64, 64, 3), -1.0), IMAGE, "expected values from 0 to 255, got -1.0"),
        (np.full((64, 64, 3), np.nan), IMAGE, "expected finite numbers, got nan"),
        (np.full(1, 2.0**63), make_box((1,), np.int64, -np.inf, np.inf), "to 9223372036854775807, got 9.22"),
        (np.full(1, 2**63, np.uint64), make_box((1,), np.int64, -np.inf, np.inf), "got 9223372036854775808"),
        ([2], make_box((1,), bool, False, True), "expected values from false to true, got 2"),
        ([0.5], make_box((1,), bool, False, True), "expected whole numbers from 0 to 1, got 0.5"),
        (np.zeros((64, 64, 3), bool), IMAGE, "expected uint8, got bool"),
        (np.full((64, 64, 3), -1), IMAGE, "from 0 to 255, got -1 at [0, 0, 0]"),
        (np.full((4, 3, 3), 4, np.uint8), GRID, "from 0 to 3, got 4 at [0, 0, 2]"),
        ([0.0, float("nan"), 0.0], VECTOR, "finite numbers, got nan at [1]"),
        ([0.0, float("inf"), 0.0], VECTOR, "finite numbers, got inf at [1]"),
        ([0.0, 1e300, 0.0], VECTOR, "too large for float32"),
        ([0.0, 0.0, -0.5], VECTOR, "from 0.0 to inf, got -0.5 at [2]"),
        ([0.0, 0.0], VECTOR, "expected shape (3,), got (2,)"),
        (np.zeros(3, bool), VECTOR, "expected float32, got bool"),
        ([True, False], make_box((2,), np.int8, 0, 2), "expected int8, got bool"),
        ("0 0 0", VECTOR, "expected an array"),
        ([[0.0, 0.0, 0.0]], VECTOR, "batch dimension"),
        ({"a": 1}, VECTOR, "expected an array"),
        ([0, 0], BOTH, "expected an object with the keys image, state"),
        (5, Discrete(5), "from 0 to 4, got 5"),
        (1.5, Discrete(5), "expected an integer from 0 to 4, got 1.5"),
        (5.0, Discrete(5), "expected an integer from 0 to 4, got 5"),
        (float("nan"), Discrete(5), "expected an integer"),
        (True, Discrete(5), "expected an integer"),
        ("1", Discrete(5), "expected an integer"),
        (None, Discrete(5), "expected an integer"),
        (10**400, Discrete(5), "a huge number"),
        ([1, 3], MultiDiscrete((2, 3)), "from 0 to 2, got 3"),
        ([1.0, 0.5], MultiDiscrete((2, 3)), "expected integers, got [1.0, 0.5]"),
        ([1], MultiDiscrete((2, 3)), "expected shape (2,)"),
    ],
)
def test_what_is_not_in_the_space_is_refused(value: Any, space: Space, message: str) -> None:
    assert any(message in text for text in _errors(value, space).values())


@pytest.mark.parametrize(
    ("value", "space"),
    [
        (np.full((64, 64, 3), 255, np.int64), IMAGE),
        (np.zeros((64, 64, 3), np.uint8).tolist(), IMAGE),
        ([0, 5, 0], VECTOR),
        ([1.0, -1e30, 0.0], VECTOR),
        (np.float64([1.0, 2.0, 3.0]), VECTOR),
        (np.float16([1.0, 2.0, 3.0]), VECTOR),
        ([1.0 + 2**-40, 0.0, 0.0], VECTOR),  # 1.0 in the space's own precision
        (np.asarray(2), Discrete(3)),
        (np.int64(2), Discrete(3)),
        (2.0, Discrete(3)),
        (np.asarray([2.0], np.float32), Discrete(3)),
        (np.full((64, 64, 3), 255.0, np.float32), IMAGE),
        (np.zeros((64, 64, 3)).tolist(), IMAGE),
        ([1, 0], make_box((2,), bool, False, True)),
        ([True, False], make_box((2,), np.int8, 0, 1)),  # a MultiBinary
    ],
)
def test_what_lies_within_is_accepted_in_the_space_s_type(value: Any, space: Space) -> None:
    checked = decode_observation(value, space)
    if isinstance(space, Box):
        assert checked.dtype == space.dtype
        assert np.allclose(checked, np.asarray(value))
    else:
        assert int(checked) == int(np.asarray(value).item())


def test_a_grey_picture_fits_a_space_with_one_channel() -> None:
    space = make_box((4, 4, 1), np.uint8, 0, 255)
    assert decode_observation(np.zeros((4, 4), np.uint8), space).shape == (4, 4, 1)


def test_actions_are_integers_or_arrays_of_the_space_s_type() -> None:
    assert decode_action(2, Discrete(3)) == 2
    action = decode_action([0.5], make_box((1,), np.float32, -1, 1))
    assert isinstance(action, np.ndarray) and action.dtype == np.float32
    with pytest.raises(ProblemError, match=r"executed_action: expected values from -1\.0 to 1\.0, got 1\.5"):
        decode_action([1.5], make_box((1,), np.float32, -1, 1), path="executed_action")
