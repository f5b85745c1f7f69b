"""Slots of live sessions: held by counting, written once."""

from __future__ import annotations

import numpy as np
import pytest

from service.engine.slots import SlotTable, as_row
from tests.service.fakes import FakeRuntime


def table(capacity: int = 2) -> SlotTable:
    return SlotTable(FakeRuntime(), capacity)


def states(*totals: float) -> np.ndarray:
    return np.array(totals, np.float32)


def test_states_are_kept_in_free_slots_and_their_bytes_are_those_of_the_rows() -> None:
    slots = table()
    at, rows = slots.keep(states(1.0, 2.0), 2)
    assert slots.used == 2 and slots.states(at).tolist() == [1.0, 2.0]
    assert (slots.read(at) == rows).all()
    assert slots.layout.split(rows[1].tobytes())["total"] == 2.0


def test_what_was_read_does_not_change_when_its_slot_is_written_anew() -> None:
    slots = table()
    at, _ = slots.keep(states(1.0, 2.0), 2)
    read, seen = slots.read(at), slots.states(at)
    before = read.copy()
    for slot in at:
        slots.release(slot)
    slots.keep(states(8.0, 9.0), 2)
    assert (read == before).all() and seen.tolist() == [1.0, 2.0]


def test_a_slot_is_free_once_nobody_holds_it() -> None:
    slots = table()
    ((slot,), _) = slots.keep(states(1.0), 1)
    assert slots.retain(slot) == slot
    slots.release(slot)
    assert slots.used == 1
    slots.release(slot)
    assert slots.used == 0
    with pytest.raises(ValueError, match="free already"):
        slots.release(slot)
    with pytest.raises(ValueError, match="cannot be held again"):
        slots.retain(slot)


def test_a_full_table_grows_by_as_much_as_is_needed_and_keeps_what_it_holds() -> None:
    slots = table(capacity=2)
    first, _ = slots.keep(states(1.0, 2.0), 2)
    more, _ = slots.keep(np.arange(9, dtype=np.float32), 9)
    assert slots.states(first).tolist() == [1.0, 2.0]
    assert slots.states(more).tolist() == list(range(9))
    assert len({*first, *more}) == 11 == slots.used


def test_rows_of_a_store_are_put_and_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = table()
    _, rows = slots.keep(states(5.0), 1)
    (slot,) = slots.put(as_row(rows.tobytes(), slots.layout.row_bytes))
    assert slots.states([slot]).tolist() == [5.0]
    with pytest.raises(ValueError, match="has 8 bytes, got 3"):
        as_row(b"abc", slots.layout.row_bytes)


def test_states_that_cannot_be_packed_hold_no_slots() -> None:
    slots = table()
    with pytest.raises(ValueError, match="total: expected float32"):
        slots.keep(np.zeros(1), 1)
    assert slots.used == 0
