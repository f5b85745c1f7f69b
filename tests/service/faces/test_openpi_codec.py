"""Messages of the openpi policy protocol: what its client packs is read, and nothing else is."""

from __future__ import annotations

from typing import Any

import msgpack
import msgpack_numpy as plain_numpy  # the package that openpi_client's module is a safer copy of
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
    read = unpack(msgpack_numpy.packb(sent), Limits()).tree
    assert np.array_equal(read["a"], array) and np.array_equal(read["b"]["c"][0], array[0])
    assert read["b"]["c"][1:] == [1, "x", None] and read["s"] == array[0, 0]
    assert read["empty"].shape == (0, 4)
    back = msgpack_numpy.unpackb(pack({"a": array, "n": np.float32(2), "t": (1, 2)}))
    assert np.array_equal(back["a"], array) and back["n"] == 2 and back["t"] == [1, 2]


def packed_plainly(tree: Any) -> bytes:
    packed: bytes = plain_numpy.packb(tree)
    return packed


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64", "float16", "float32", ">f8", "<i4"])
def test_arrays_of_the_msgpack_numpy_package_are_read_and_answered_in_its_form(dtype: str) -> None:
    array = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    parts = {
        "a": array,
        "turned": array.T,
        "point": np.asarray(array[0, 0]),
        "s": array[1, 1],
        "none": array[:0],
    }
    message, plain_form = unpack(packed_plainly({**parts, "n": 3, "list": [array[0], "x"]}), Limits())
    assert plain_form
    for name, part in parts.items():
        assert np.array_equal(message[name], part) and np.shape(message[name]) == np.shape(part)
    assert message["a"].dtype == array.dtype and type(message["s"]) in (bool, int, float)
    assert message["n"] == 3 and np.array_equal(message["list"][0], array[0])
    back = plain_numpy.unpackb(pack({"actions": array, "n": np.float32(2)}, plain_form=plain_form))
    assert np.array_equal(back["actions"], array) and back["n"] == 2


def test_an_answer_is_in_openpi_s_own_form_unless_every_array_came_in_the_other() -> None:
    array = np.ones(2)
    assert not unpack(msgpack_numpy.packb({"a": array}), Limits()).plain_form
    assert not unpack(msgpack.packb({"a": [1.0, 2.0]}), Limits()).plain_form
    mixed = {"a": plain_numpy.encode(array), "b": msgpack_numpy.pack_array(array)}
    assert not unpack(msgpack.packb(mixed), Limits()).plain_form


def nd_form(**changes: Any) -> dict[str, Any]:
    return {"nd": True, "type": "<f4", "kind": "", "shape": [2], "data": bytes(8), **changes}


@pytest.mark.parametrize("as_bytes", [False, True], ids=["text keys", "bytes keys"])
@pytest.mark.parametrize("kind", ["", b"", "f", b"f", None, "absent"])
def test_the_keys_of_an_array_are_text_or_bytes_and_its_kind_may_be_left_out(
    kind: Any, as_bytes: bool
) -> None:
    form = {key: value for key, value in nd_form(kind=kind).items() if value != "absent"}
    sent = {key.encode(): value for key, value in form.items()} if as_bytes else form
    read = unpack(msgpack.packb({"observation": sent}), Limits()).tree["observation"]
    assert read.dtype == np.float32 and read.shape == (2,)


@pytest.mark.parametrize("name", ["float32", "<f4", b"float32", "=f4"])
def test_a_type_may_be_named_in_full(name: Any) -> None:
    read = unpack(msgpack.packb({"observation": nd_form(type=name)}), Limits()).tree["observation"]
    assert read.dtype == np.float32
    with pytest.raises(ProblemError, match="as '<f4' or 'float32', got 'f'"):
        unpack(msgpack.packb({"observation": nd_form(type="f")}), Limits())


def test_an_observation_may_have_entries_whose_names_an_array_has_too() -> None:
    tree = {"nd": [1, 2], "type": 3, "data": [4]}
    assert unpack(msgpack.packb(tree), Limits()).tree == tree


class Unpickled(Exception):
    """What :class:`Trap` raises when it is unpickled."""


class Trap:
    def __reduce__(self) -> Any:
        return (_spring, ())


def _spring() -> None:
    raise Unpickled


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.array([Trap()], object), "Python objects: they would have to be unpickled"),
        (np.zeros(2, [("x", "<f4"), ("y", "<i4")]), "records"),
        (np.array(["up"]), "text"),
        (np.array([b"up"]), "byte strings"),
        (np.zeros(2, np.complex64), "complex numbers"),
        (np.complex64(1), "complex numbers"),
        (1 + 2j, "complex numbers"),
        (np.zeros(2, np.longdouble), "expected bool"),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")) or None,
)
def test_what_else_the_msgpack_numpy_package_packs_is_refused_by_its_name(value: Any, says: str) -> None:
    raw = packed_plainly({"observation": value})
    with pytest.raises(ProblemError) as refused:
        unpack(raw, Limits())
    assert refused.value.code == "invalid_request" and says in refused.value.detail
    assert refused.value.errors[0].path.startswith("observation")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "O"},
        {"kind": b"O", "type": "|O"},
        {"kind": b"V", "type": [["x", "<f4"]]},
        {"kind": "i"},
        {"kind": 3},
        {"type": [["x", "<f4"]]},
        {"type": "O"},
        {"type": "<f4,<f4"},
        {"type": "(2,)<f4"},
        {"type": None},
        {"shape": [3]},
        {"shape": None},
        {"data": "text"},
        {"nd": False, "data": bytes(8)},
    ],
    ids=str,
)
def test_a_form_that_is_no_plain_array_never_reaches_numpy(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    dtype = np.dtype
    monkeypatch.setattr(np, "dtype", lambda name: shown.append(name) or dtype(name))
    with pytest.raises(ProblemError) as refused:
        unpack(msgpack.packb({"observation": nd_form(**changes)}), Limits())
    assert refused.value.status == 422 and set(shown) <= {"<f4"}


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


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        (["observation", "position"], "observation.position.shape"),  # as an act names it over HTTP
        (["observation/position"], "observation/position.shape"),
        (["executed_action"], "executed_action.shape"),
        ([], "shape"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, list) else "",
)
def test_an_error_says_where_in_the_message_it_is(keys: list[str], where: str) -> None:
    message: Any = nd_form(shape=[-1])
    for key in reversed(keys):
        message = {key: message}
    with pytest.raises(ProblemError) as refused:
        unpack(msgpack.packb(message), Limits())
    assert [error.path for error in refused.value.errors] == [where]


def test_messages_are_bounded() -> None:
    limits = Limits(body_bytes=100)
    with pytest.raises(ProblemError) as refused:
        unpack(msgpack_numpy.packb({"observation": np.zeros(100)}), limits)
    assert refused.value.status == 413
