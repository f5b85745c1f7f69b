"""Memory for weights: aligned, zero, and no more of it resident than is read."""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
import pytest

from thick.runtimes.native.library import address
from thick.runtimes.native.weights import Room


def test_what_is_taken_is_aligned_and_stays_when_the_rest_is_given_back() -> None:
    room = Room()
    first, second = room.take(3, 7), room.take(100_000)
    assert not first.any() and not second.any()
    first[:], second[:] = 1, 2
    room.close()
    room.close()
    third = room.take(5)
    third[:] = 3
    larger = room.take(Room.PIECE // 4 + 1)  # beyond a piece
    assert not larger.any()
    assert (first == 1).all() and (second == 2).all() and (third == 3).all()
    assert [address(each) % 64 for each in (first, second, third, larger)] == [0] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is resident")
def test_what_is_left_of_a_piece_is_not_resident() -> None:
    room = Room()
    taken = room.take(300_000)  # 1.2 MB: within the first huge page, where there are any
    taken[:] = 1
    left = room._left
    room.close()
    begin = -(-address(left) // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = (address(left) + left.nbytes - begin) // mmap.PAGESIZE
    resident = (ctypes.c_ubyte * pages)()
    assert (
        ctypes.CDLL(None).mincore(ctypes.c_void_p(begin), ctypes.c_size_t(pages * mmap.PAGESIZE), resident)
        == 0
    )
    assert pages > 3000 and not any(page & 1 for page in resident)


def test_numbers_are_floats() -> None:
    assert Room().take(2).dtype == np.float32
