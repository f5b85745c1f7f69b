"""Rows of states: what is packed comes back bit by bit, whatever the tensors look like."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from service.engine.slots import ALIGNMENT, DTYPES, Layout, SlotTable, rows_of, walk


class Inner(NamedTuple):
    flags: Tensor
    """[B, 3] bool"""
    half: Tensor
    """[B, 5] bfloat16"""
    nothing: Tensor
    """[B, 0]"""


class State(NamedTuple):
    active: Tensor
    """[B] bool"""
    inner: Inner
    grid: Tensor
    """[B, 2, 3] float32"""
    count: Tensor
    """[B] int64"""


def example(batch: int, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    inner = Inner(drawn(3) > 0, drawn(5).bfloat16(), drawn(0))
    return State(drawn() > 0, inner, drawn(2, 3), (drawn() * 1e12).long())


def same(one: State, other: State) -> bool:
    pairs = zip(walk(one), walk(other), strict=True)
    return all(a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b) for (_, a), (_, b) in pairs)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_packed_batch_comes_back_bit_by_bit(batch: int) -> None:
    state = example(batch)
    layout = Layout(state)
    assert same(layout.unpack(layout.pack(state)), state)


@pytest.mark.parametrize("batch", [1, 2])
def test_numbers_that_lie_apart_in_memory_are_packed_as_they_are(batch: int) -> None:
    class One(NamedTuple):
        number: Tensor

    state = One(torch.arange(14.0 * batch).reshape(batch, 14)[:, 3:4])
    assert state.number.stride(-1) == 1
    apart = One(torch.arange(14.0 * batch).reshape(batch, 1, 14)[..., 3])
    assert apart.number.stride(-1) == 14
    layout = Layout(state)
    assert same(layout.unpack(layout.pack(apart)), state)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_type_of_leaf_fits_whatever_stands_before_it(dtype: torch.dtype) -> None:
    class Odd(NamedTuple):
        first: Tensor
        second: Tensor

    state = Odd(torch.tensor([[True], [False]]), torch.arange(6).reshape(2, 3).to(dtype))
    layout = Layout(state)
    again = layout.unpack(layout.pack(state))
    assert again.second.dtype == dtype and torch.equal(again.second, state.second)
    assert layout.row_bytes % ALIGNMENT == 0


def test_leaves_that_are_views_of_something_else_are_packed_as_they_look() -> None:
    state = example(4)
    layout = Layout(state)
    wide = torch.randn(4, 3, 2)
    strange = state._replace(grid=wide.transpose(1, 2), count=torch.tensor([5]).expand(4))
    again = layout.unpack(layout.pack(strange))
    assert torch.equal(again.grid, wide.transpose(1, 2))
    assert again.count.tolist() == [5, 5, 5, 5]


def test_equal_states_have_equal_rows_and_a_row_splits_into_the_same_leaves() -> None:
    layout = Layout(example(1))
    rows = layout.pack(example(3))
    assert torch.equal(rows, layout.pack(example(3)))
    for index in range(3):
        row = rows[index].numpy().tobytes()
        leaves = layout.split(row)
        assert layout.join(leaves) == row
        expected = dict(walk(rows_of(example(3), [index])))
        assert all(torch.equal(leaves[name], expected[name][0]) for name in expected)


def test_a_state_of_another_shape_or_type_is_refused_by_name() -> None:
    state = example(2)
    layout = Layout(state)
    with pytest.raises(
        ValueError, match=r"grid: expected torch.float32 \(2, 3\), got torch.float32 \(2, 4\)"
    ):
        layout.pack(state._replace(grid=torch.zeros(2, 2, 4)))
    with pytest.raises(ValueError, match=r"count: expected torch\.int64"):
        layout.pack(state._replace(count=torch.zeros(2)))


def test_what_was_read_from_a_table_does_not_change_when_the_table_does() -> None:
    state = example(2)
    table = SlotTable(Layout(state), "cpu", capacity=2)
    slots = table.put(table.layout.pack(state))
    read = table.layout.unpack(table.gather(slots))
    for slot in slots:
        table.release(slot)
    table.put(table.layout.pack(example(2, seed=9)))
    assert same(read, state)


def test_a_sub_batch_has_the_rows_asked_for_in_their_order() -> None:
    state = example(4)
    picked = rows_of(state, [2, 0])
    assert torch.equal(picked.grid, state.grid[[2, 0]])
    assert torch.equal(picked.inner.flags, state.inner.flags[[2, 0]])
    assert same(rows_of(state, [0, 1, 2, 3]), state)
