"""States of torch in rows: the bytes that the layout says, and bit by bit the same back, whatever the tensors look
like."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from thick.pytrees import walk
from thick.runtimes.layout import DTYPES, Layout
from thick.runtimes.torch.packing import Packing


class Inner(NamedTuple):
    flags: Tensor
    """[B, 3] bool"""
    half: Tensor
    """[B, 5] float16"""
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

    inner = Inner(drawn(3) > 0, drawn(5).half(), drawn(0))
    return State(drawn() > 0, inner, drawn(2, 3), (drawn() * 1e12).long())


def packing_of(state: Any) -> Packing:
    """For states like this one."""
    arrays = ((name, str(x.dtype).removeprefix("torch."), x.shape[1:]) for name, x in walk(state))
    return Packing(Layout(arrays), state)


def same(one: State, other: State) -> bool:
    pairs = zip(walk(one), walk(other), strict=True)
    return all(a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b) for (_, a), (_, b) in pairs)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_packed_batch_comes_back_bit_by_bit(batch: int) -> None:
    state = example(batch)
    packing = packing_of(state)
    assert same(packing.unpack(packing.pack(state)), state)


@pytest.mark.parametrize("batch", [1, 2])
def test_numbers_that_lie_apart_in_memory_are_packed_as_they_are(batch: int) -> None:
    class One(NamedTuple):
        number: Tensor

    state = One(torch.arange(14.0 * batch).reshape(batch, 14)[:, 3:4])
    assert state.number.stride(-1) == 1
    apart = One(torch.arange(14.0 * batch).reshape(batch, 1, 14)[..., 3])
    assert apart.number.stride(-1) == 14
    packing = packing_of(state)
    assert same(packing.unpack(packing.pack(apart)), state)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_type_of_leaf_fits_whatever_stands_before_it(dtype: str) -> None:
    class Odd(NamedTuple):
        first: Tensor
        second: Tensor

    state = Odd(torch.tensor([[True], [False]]), torch.arange(6).reshape(2, 3).to(getattr(torch, dtype)))
    packing = packing_of(state)
    again = packing.unpack(packing.pack(state))
    assert again.second.dtype == state.second.dtype and torch.equal(again.second, state.second)


def test_leaves_that_are_views_of_something_else_are_packed_as_they_look() -> None:
    state = example(4)
    packing = packing_of(state)
    wide = torch.randn(4, 3, 2)
    strange = state._replace(grid=wide.transpose(1, 2), count=torch.tensor([5]).expand(4))
    again = packing.unpack(packing.pack(strange))
    assert torch.equal(again.grid, wide.transpose(1, 2))
    assert again.count.tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize("batch", [1, 3])
def test_the_bytes_are_those_that_the_layout_makes_of_the_same_numbers(batch: int) -> None:
    state = example(batch)
    layout = Layout((name, str(x.dtype).removeprefix("torch."), x.shape[1:]) for name, x in walk(state))
    mine = Packing(layout, state).pack(state).numpy()
    assert (mine == layout.pack([x.numpy() for _, x in walk(state)])).all()


def test_a_state_of_another_shape_or_type_is_refused_by_name() -> None:
    state = example(2)
    packing = packing_of(state)
    with pytest.raises(ValueError, match=r"grid: expected torch.float32 \(2, 3\)"):
        packing.pack(state._replace(grid=torch.zeros(2, 2, 4)))
    with pytest.raises(ValueError, match=r"count: expected torch\.int64"):
        packing.pack(state._replace(count=torch.zeros(2)))
