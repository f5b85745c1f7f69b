"""Rows of bytes: what is packed comes back bit by bit, and what does not fit is named."""

from __future__ import annotations

import numpy as np
import pytest

from thick.runtimes.layout import ALIGNMENT, DTYPES, Layout

ARRAYS = [
    ("active", "bool", ()),
    ("inner.flags", "bool", (3,)),
    ("inner.nothing", "float32", (0,)),
    ("grid", "float32", (2, 3)),
    ("half", "float16", (5,)),
    ("count", "int64", ()),
]


def batch_of(batch: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(100 * rng.standard_normal((batch, *shape))).astype(dtype) for _, dtype, shape in ARRAYS]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_packed_batch_comes_back_bit_by_bit(batch: int) -> None:
    layout, arrays = Layout(ARRAYS), batch_of(batch)
    rows = layout.pack(arrays)
    assert rows.shape == (batch, layout.row_bytes)
    for array, back in zip(arrays, layout.unpack(rows), strict=True):
        assert back.dtype == array.dtype and np.array_equal(back, array)


def test_numbers_that_lie_apart_in_memory_are_packed_as_they_are() -> None:
    layout = Layout([("x", "float32", (3,))])
    apart = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    (back,) = layout.unpack(layout.pack([apart]))
    assert np.array_equal(back, apart)


def test_every_leaf_starts_where_any_type_may_be_read() -> None:
    layout = Layout([(dtype, dtype, (3,)) for dtype in sorted(DTYPES)])
    assert all(leaf.offset % ALIGNMENT == 0 for leaf in layout.leaves)
    assert layout.row_bytes % ALIGNMENT == 0


def test_the_bytes_between_leaves_are_zero_whatever_lay_in_memory() -> None:
    layout = Layout([("flag", "bool", ()), ("x", "float64", ())])
    rows = layout.pack([np.ones(2, bool), np.zeros(2)])
    assert rows.tolist() == [[1] + [0] * 15] * 2


def test_two_layouts_share_a_description_exactly_when_their_rows_are_alike() -> None:
    assert Layout(ARRAYS).description == Layout(list(ARRAYS)).description
    assert Layout(ARRAYS).description != Layout(ARRAYS[::-1]).description
    assert Layout([("x", "float32", (2,))]).description != Layout([("x", "float32", (1, 2))]).description


def test_a_row_is_split_by_name_and_joined_again() -> None:
    layout = Layout(ARRAYS)
    row = layout.pack(batch_of(1)).tobytes()
    leaves = layout.split(row)
    assert [(name, leaf.dtype, leaf.shape) for name, leaf in leaves.items()] == ARRAYS
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves.values())
    assert layout.join(leaves) == row


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda leaves: leaves.pop("grid"), "lacks grid"),
        (lambda leaves: leaves.update(more=np.zeros(1)), "more, which this model does not know"),
        (lambda leaves: leaves.update(grid=np.zeros((3, 2), np.float32)), "grid: expected float32"),
        (lambda leaves: leaves.update(count=np.zeros((), np.int32)), "count: expected int64"),
    ],
)
def test_a_leaf_that_does_not_fit_is_named(change: object, said: str) -> None:
    layout = Layout(ARRAYS)
    leaves = layout.split(layout.pack(batch_of(1)).tobytes())
    change(leaves)  # type: ignore[operator]
    with pytest.raises(ValueError, match=said):
        layout.join(leaves)


def test_a_row_of_another_length_is_refused() -> None:
    layout = Layout(ARRAYS)
    with pytest.raises(ValueError, match=f"has {layout.row_bytes} bytes, got 3"):
        layout.split(b"abc")


def test_a_type_that_no_row_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="x: a state cannot hold bfloat16"):
        Layout([("x", "bfloat16", (1,))])


def test_an_array_of_another_type_or_shape_is_not_packed() -> None:
    layout = Layout([("x", "float32", (2,))])
    with pytest.raises(ValueError, match="x: expected float32"):
        layout.pack([np.zeros((1, 2))])
    with pytest.raises(ValueError, match="the state has 2 arrays"):
        layout.pack([np.zeros((1, 2), np.float32)] * 2)
