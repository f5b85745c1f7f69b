"""Actions outside and inside a model."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thick.envs.actions import MOST_CHOICES, ActionCodec


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Bounded Boxes of any shape and number type, some of no width."""
    dtype = np.dtype(draw(st.sampled_from(["float32", "float64", "int8", "int64", "uint8"])))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    low = draw(hnp.arrays(np.int64, shape, elements=st.integers(0 if dtype.kind == "u" else -50, 50)))
    width = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 60)))
    return Box(low.astype(dtype), (low + width).astype(dtype), shape, dtype)


@st.composite
def multi(draw: st.DrawFn) -> MultiDiscrete:
    shape = draw(hnp.array_shapes(max_dims=2, max_side=2))
    nvec = draw(hnp.arrays(np.int64, shape, elements=st.integers(1, 5)))
    return MultiDiscrete(nvec, start=draw(hnp.arrays(np.int64, shape, elements=st.integers(-9, 9))))


action_spaces = (
    boxes()
    | multi()
    | st.builds(Discrete, st.integers(1, 40), start=st.integers(-9, 9))
    | st.integers(1, 6).map(MultiBinary)
)


@given(action_spaces, st.integers(0, 2**31))
def test_an_action_survives_the_way_into_the_model_and_out(space: gymnasium.Space, seed: int) -> None:
    codec = ActionCodec(space)
    space.seed(seed)
    action = space.sample()
    inside = codec.encode([action])
    assert inside.shape == (1, codec.size) and inside.dtype == np.float32
    assert np.abs(inside).max() <= 1 + 1e-6
    if codec.discrete:
        assert sorted(inside[0])[-1] == inside.sum() == 1
    (back,) = codec.decode(inside)
    assert space.contains(back)
    np.testing.assert_allclose(back, action, atol=1e-4)


@given(action_spaces, st.integers(0, 2**31))
def test_a_sampled_action_belongs_to_its_space(space: gymnasium.Space, seed: int) -> None:
    assert space.contains(ActionCodec(space).sample(np.random.default_rng(seed)))


def test_every_combination_of_a_multi_discrete_is_one_choice() -> None:
    codec = ActionCodec(MultiDiscrete([2, 3], start=[0, 5]))
    decoded = [action.tolist() for action in codec.decode(np.eye(6))]
    assert decoded == [[0, 5], [0, 6], [0, 7], [1, 5], [1, 6], [1, 7]]


def test_a_box_is_scaled_to_its_bounds() -> None:
    codec = ActionCodec(Box(np.array([0.0, -2.0]), np.array([10.0, 2.0]), dtype=np.float32))
    assert codec.encode([[10.0, 0.0], [5.0, -2.0]]).tolist() == [[1.0, 0.0], [0.0, -1.0]]
    assert [a.tolist() for a in codec.decode(np.array([[-1.0, 0.5], [7.0, 0.0]]))] == [
        [0.0, 1.0],
        [10.0, 0.0],
    ]


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (Box(-np.inf, np.inf, (2,)), r"action 0 goes from -inf to inf, .*action_bounds: \[-1, 1\]"),
        (Box(np.array([-1, 0]), np.array([1, np.inf])), "action 1 goes from 0 to inf"),
        (Box(-3.4e38, 3.4e38, (1,)), "a planner needs a range"),
        (Box(0, 1, (0,)), "holds no numbers"),
        (Box(0, 1, (2,), np.bool_), "MultiBinary"),
        (Discrete(5000), f"5000 choices are too many to search .at most {MOST_CHOICES}"),
        (MultiBinary(11), "2048 choices"),
        (Dict(a=Discrete(2)), "Dict actions cannot be planned"),
        (gymnasium.spaces.Text(3), "Text actions cannot be planned"),
    ],
)
def test_an_action_space_that_cannot_be_planned_says_what_to_do(space: gymnasium.Space, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ActionCodec(space)


@pytest.mark.parametrize(
    ("space", "wrong"),
    [
        (Discrete(3, start=1), 0),
        (Discrete(3), True),
        (Discrete(3), 1.0),
        (Discrete(3), 2**70),
        (MultiDiscrete([2, 2]), [0, 2]),
        (MultiDiscrete([2, 2]), [0]),
        (Box(-1, 1, (2,)), [0.0, float("nan")]),
        (Box(-1, 1, (2,)), [0.0]),
        (Box(-1, 1, (2,)), "fast"),
    ],
)
def test_an_action_that_is_none_of_the_space_is_refused(space: gymnasium.Space, wrong: Any) -> None:
    with pytest.raises(ValueError, match="action: expected"):
        ActionCodec(space).encode([wrong])
