"""Messages of the openpi policy protocol: what its client packs is read, and nothing else is."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from openpi_client import msgpack_numpy

from service.faces.openpi.codec import pack, unpack
from service.protocol.errors import ProblemError
from service.protocol.limits import Limits


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64", "float16", "float32", ">f8", "<i4"])
def test_arrays_survive_the_way_in_both_directions(dtype: str) -> None:
    array = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    sent = {"a": array, "b": {"c": [array[0], 1, "x", None]}, "s": array[0, 0], "empty": array[:0]}
    read = unpack(msgpack_numpy.packb(sent), Limits())
    assert np.array_equal(read["a"], array) and np.array_equal(read["b"]["c"][0], array[0])
    assert read["b"]["c"][1:] == [1, "x", None] and read["s"] == array[0, 0]
    assert read["empty"].shape == (0, 4)
    back = msgpack_numpy.unpackb(pack({"a": array, "n": np.float32(2), "t": (1, 2)}))
    assert np.array_equal(back["a"], array) and back["n"] == 2 and back["t"] == [1, 2]


def array_message(**changes: Any) -> bytes:
    form = {b"__ndarray__": True, b"data": bytes(8), b"dtype": "<f4", b"shape": [2]}
    packed: bytes = msgpack.packb({"observation": {**form, **{k.encode(): v for k, v in changes.items()}}})
    return packed


@pytest.mark.parametrize(
    "raw",
    [
        array_message(dtype="|O"),
        array_message(dtype="O8"),
        array_message(dtype="<f4,<f4"),
        array_message(dtype="|V8"),
        array_message(dtype="<c8"),
        array_message(dtype="<M8[ns]"),
        array_message(dtype="<f16"),
        array_message(dtype=None),
        array_message(shape=[3]),
        array_message(shape=[-1]),
        array_message(shape=[2.0]),
        array_message(shape=[2**40, 2**40]),
        array_message(shape=[1] * 40 + [2]),
        array_message(data=None),
        array_message(dtype="|b1", data=b"\x02\x01"),
        msgpack.packb({"observation": {b"__npgeneric__": True, b"data": [1], b"dtype": "<f4"}}),
        msgpack.packb({"observation": msgpack.ExtType(5, b"code")}),
        msgpack.packb({1: 2}),
        msgpack.packb({b"\xff": 2}),
        msgpack.packb([1]),
        b"",
        b"\x80" * 2,
        b"\x91" * 10_000,
        b"\xdd\xff\xff\xff\xff",
    ],
    ids=lambda raw: f"{len(raw)} bytes",
)
def test_a_message_that_is_not_what_it_should_be_is_refused(raw: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        unpack(raw, Limits())
    assert refused.value.status == 422


def test_messages_are_bounded() -> None:
    limits = Limits(body_bytes=100)
    with pytest.raises(ProblemError) as refused:
        unpack(msgpack_numpy.packb({"observation": np.zeros(100)}), limits)
    assert refused.value.status == 413
