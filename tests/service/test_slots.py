"""States in rows of bytes: what is read is what was written, for any tree of tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from service.slots import DTYPES, Layout, SlotTable, rows_of, walk


class Inner(NamedTuple):
    logits: Tensor
    empty: Tensor
    open: Tensor


class Outer(NamedTuple):
    inner: Inner
    count: Tensor
    half: Tensor


def example(batch: int, seed: int = 0) -> Outer:
    source = torch.Generator().manual_seed(seed)
    return Outer(
        Inner(
            torch.randn(batch, 3, 5, generator=source),
            torch.zeros(batch, 0),
            torch.rand(batch, 3, generator=source) > 0.5,
        ),
        torch.randint(-9, 9, (batch,), generator=source),
        torch.randn(batch, 7, generator=source).bfloat16(),
    )


def equal(one: Any, other: Any) -> bool:
    return all(
        name == other_name and a.dtype == b.dtype and torch.equal(a, b)
        for (name, a), (other_name, b) in zip(walk(one), walk(other), strict=True)
    )


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_packing_and_unpacking_is_the_identity(batch: int) -> None:
    layout = Layout(example(1))
    state = example(batch, batch)
    assert equal(layout.unpack(layout.pack(state)), state)
    assert [name for name, _ in walk(state)] == [
        "inner.logits", "inner.empty", "inner.open", "count", "half",
    ]  # fmt: skip


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 4),
)
def test_leaves_of_any_type_and_shape_fit(leaves: list[tuple[str, list[int]]], batch: int) -> None:
    kind = NamedTuple("kind", [(f"leaf{n}", Tensor) for n in range(len(leaves))])  # type: ignore[misc]

    def make(size: int) -> Any:
        return kind(*(torch.randint(0, 2, (size, *shape)).to(DTYPES[dtype]) for dtype, shape in leaves))

    layout, state = Layout(make(1)), make(batch)
    assert equal(layout.unpack(layout.pack(state)), state)


def test_a_row_splits_into_leaves_and_joins_again() -> None:
    layout = Layout(example(1))
    row = bytes(layout.pack(example(1, 4))[0].numpy().tobytes())
    leaves = layout.split(row)
    assert leaves["count"].shape == () and leaves["inner.logits"].shape == (3, 5)
    assert layout.join(leaves) == row
    for name, wrong, told in (
        ("half", None, "lacks half"),
        ("extra", torch.zeros(1), "extra"),
        ("half", torch.zeros(7), "half: expected"),
        ("count", torch.zeros(1, dtype=torch.int64), "count: expected"),
    ):
        changed = {key: leaf for key, leaf in leaves.items() if key != name or wrong is not None}
        if wrong is not None:
            changed[name] = wrong
        with pytest.raises(ValueError, match=told):
            layout.join(changed)
    with pytest.raises(ValueError, match="bytes"):
        layout.split(row + b"x")


def test_two_layouts_share_a_description_only_where_rows_mean_the_same() -> None:
    one = example(1)
    assert Layout(one).description == Layout(example(5)).description
    assert Layout(one).description != Layout(one._replace(half=one.half.float())).description
    with pytest.raises(ValueError, match="count"):
        Layout(one).pack(one._replace(count=one.count.int()))


def test_slots_are_held_by_counting_and_the_table_grows() -> None:
    layout = Layout(example(1))
    table = SlotTable(layout, "cpu", capacity=2)
    states = example(5, 5)
    slots = table.put(layout.pack(states))
    assert len(set(slots)) == 5 == table.used
    assert equal(layout.unpack(table.gather(slots)), states)
    assert equal(layout.unpack(table.gather([slots[3], slots[3], slots[0]])), rows_of(states, [3, 3, 0]))
    table.retain(slots[0])
    table.release(slots[0])
    assert table.used == 5
    for slot in slots:
        table.release(slot)
    assert table.used == 0
    with pytest.raises(ValueError, match="free"):
        table.release(slots[0])
    with pytest.raises(ValueError, match="free"):
        table.retain(slots[0])


def test_writing_a_slot_leaves_the_others_alone() -> None:
    layout = Layout(example(1))
    table = SlotTable(layout, "cpu", capacity=4)
    kept = table.put(layout.pack(example(3, 1)))
    table.release(table.put(layout.pack(example(1, 2)))[0])
    table.put(layout.pack(example(4, 3)))
    assert equal(layout.unpack(table.gather(kept)), example(3, 1))
