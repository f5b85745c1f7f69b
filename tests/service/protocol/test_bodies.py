"""Whole bodies: JSON and msgpack, negotiation, events, digests."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.protocol import media
from service.protocol.arrays import EncodedImage
from service.protocol.bodies import decode_arrays, decode_body, encode_body, read_msgpack
from service.protocol.digests import digest
from service.protocol.errors import ProblemError
from service.protocol.events import encode_event, read_events
from service.protocol.limits import DEFAULT_LIMITS, Limits
from tests.service.protocol.strategies import arrays, same, scalars, trees

media_types = st.sampled_from(media.BODY_TYPES)


@given(trees(scalars), media_types)
def test_plain_trees_come_back_unchanged(tree: Any, media_type: str) -> None:
    assert same(decode_body(encode_body(tree, media_type), media_type), tree)


@given(trees(arrays().filter(lambda a: a.ndim > 0)))
def test_arrays_in_msgpack_bodies_come_back_bit_by_bit(tree: Any) -> None:
    again = decode_arrays(decode_body(encode_body(tree, media.MSGPACK), media.MSGPACK))
    assert same(again, tree)


@given(trees(arrays(finite=True).filter(lambda a: a.ndim > 1)))
def test_arrays_in_json_bodies_come_back_bit_by_bit(tree: Any) -> None:
    again = decode_arrays(decode_body(encode_body(tree, media.JSON), media.JSON))
    assert same(again, tree)


@given(arrays(finite=True).filter(lambda a: a.ndim == 1))
def test_vectors_in_json_are_lists_with_every_digit(vector: np.ndarray) -> None:
    values = decode_body(encode_body(vector), media.JSON)
    assert isinstance(values, list)
    assert np.array_equal(np.asarray(values, vector.dtype), vector)


def test_a_vector_with_nan_keeps_it_in_json() -> None:
    again = decode_arrays(decode_body(encode_body({"x": np.float32([1, np.nan])}), media.JSON))
    assert np.array_equal(again["x"], np.float32([1, np.nan]), equal_nan=True)


@pytest.mark.parametrize("media_type", media.BODY_TYPES)
def test_numbers_that_are_not_finite_travel_as_null(media_type: str) -> None:
    tree = {"a": float("inf"), "b": [float("nan"), np.float32("-inf")], "c": np.asarray(np.nan)}
    assert decode_body(encode_body(tree, media_type), media_type) == {"a": None, "b": [None, None], "c": None}


def test_json_and_msgpack_carry_the_same_tree() -> None:
    tree = {
        "i": np.int64(3),
        "f": np.float32(0.5),
        "b": np.bool_(True),
        "t": (1, 2),
        "image": EncodedImage("png", b"x"),
    }
    as_json = decode_body(encode_body(tree, media.JSON), media.JSON)
    as_msgpack = decode_body(encode_body(tree, media.MSGPACK), media.MSGPACK)
    assert as_json.pop("image") == {"encoding": "png", "data": "eA=="}
    assert as_msgpack.pop("image") == {"encoding": "png", "data": b"x"}
    assert as_json == as_msgpack == {"i": 3, "f": 0.5, "b": True, "t": [1, 2]}


@pytest.mark.parametrize("media_type", [media.JSON, media.MSGPACK])
@pytest.mark.parametrize("dtype", ["complex64", "longdouble", "M8[s]", "f4,f4"])
def test_a_dtype_that_cannot_travel_is_named(dtype: str, media_type: str) -> None:
    with pytest.raises(TypeError, match=r"an array of .* cannot be sent; convert it to one of bool"):
        encode_body({"observation": np.zeros(2, dtype)}, media_type)


def test_what_cannot_travel_is_an_error_of_the_sender() -> None:
    for tree in ({"a": object()}, {"a": {1, 2}}):
        with pytest.raises(TypeError, match="cannot be sent"):
            encode_body(tree)
    with pytest.raises(TypeError, match="bytes cannot be sent in JSON"):
        encode_body({"a": b"x"})


DEEP = 100_000


@pytest.mark.parametrize(
    ("raw", "content_type", "code"),
    [
        (b"", None, "malformed_body"),
        (b"{", media.JSON, "malformed_body"),
        (b"{'a': 1}", media.JSON, "malformed_body"),
        (b"\xff\xfe{}", media.JSON, "malformed_body"),
        (b'{"a": NaN}', media.JSON, "malformed_body"),
        (b"[-Infinity]", media.JSON, "malformed_body"),
        (b"[" * DEEP, media.JSON, "malformed_body"),
        (b"[" * 40 + b"]" * 40, media.JSON, "malformed_body"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, media.JSON, "malformed_body"),
        (b"9" * 5000, media.JSON, "malformed_body"),
        (b'"\\ud800"', media.JSON, "malformed_body"),
        (b'{"\\udfff": 1}', media.JSON, "malformed_body"),
        (b"", media.MSGPACK, "malformed_body"),
        (b"\x91" * DEEP, media.MSGPACK, "malformed_body"),
        (b"\x91" * 40 + b"\x01", media.MSGPACK, "malformed_body"),
        (b"\xdd\xff\xff\xff\xff", media.MSGPACK, "malformed_body"),  # claims 2^32 elements
        (b"\xdf\xff\xff\xff\xff" * 50, media.MSGPACK, "malformed_body"),
        (b"\xc6\xff\xff\xff\xff", media.MSGPACK, "malformed_body"),  # claims 4 GiB of bytes
        (b"\xc1", media.MSGPACK, "malformed_body"),
        (b"\x01\x02", media.MSGPACK, "malformed_body"),
        (b"\xa1\xff", media.MSGPACK, "malformed_body"),
        (b"\x81\x01\x02", media.MSGPACK, "malformed_body"),
        (b"\x81\xc4\x01a\x02", media.MSGPACK, "malformed_body"),
        (b"\xd4\x01\x00", media.MSGPACK, "malformed_body"),
        (b"\xc7\x00\x01", media.MSGPACK, "malformed_body"),
        (b"\xd6\xff\x00\x00\x00\x00", media.MSGPACK, "malformed_body"),  # a timestamp
        (b"{}", "text/plain", "unsupported_media_type"),
        (b"{}", "application/x-pickle", "unsupported_media_type"),
        (b" " * 1001, media.JSON, "body_too_large"),
    ],
)
def test_bad_bodies_are_problems_with_a_code(raw: bytes, content_type: str | None, code: str) -> None:
    with pytest.raises(ProblemError) as caught:
        decode_body(
            raw,
            content_type,
            Limits(body_bytes=max(1000, DEEP if len(raw) == DEEP else 0, 5000 * (raw[:1] == b"9"))),
        )
    assert caught.value.code == code
    assert len(caught.value.detail) < 400


@given(st.binary(max_size=300), media_types)
def test_noise_is_a_value_or_a_problem_never_another_error(noise: bytes, media_type: str) -> None:
    try:
        decode_body(noise, media_type)
    except ProblemError as problem:
        assert problem.status == 422


@given(trees(scalars), st.data())
def test_cut_bodies_are_problems(tree: Any, data: st.DataObject) -> None:
    raw = encode_body({"tree": tree}, media.MSGPACK)
    with pytest.raises(ProblemError):
        decode_body(raw[: data.draw(st.integers(0, len(raw) - 1))], media.MSGPACK)


def test_claimed_sizes_allocate_nothing() -> None:
    # Nested arrays that each claim as many elements as the body has bytes would take 8 * 10^6 * 30 bytes.
    import tracemalloc

    raw = b"\xdd\x00\x0f\x42\x40" * 30 + bytes(1_000_000 - 150)
    tracemalloc.start()
    with pytest.raises(ProblemError):
        decode_body(raw, media.MSGPACK)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, media.JSON),
        ("", media.JSON),
        ("*/*", media.JSON),
        ("application/msgpack", media.MSGPACK),
        ("Application/MsgPack; charset=x", media.MSGPACK),
        ("application/x-msgpack", media.MSGPACK),
        ("application/*", media.JSON),
        ("text/html, application/msgpack;q=0.9, */*;q=0.1", media.MSGPACK),
        ("application/json;q=0.5, application/msgpack", media.MSGPACK),
        ("application/json;q=0, */*", media.MSGPACK),
        ("text/html", None),
        ("application/json;q=0", None),
        ("application/msgpack;q=nonsense", None),
    ],
)
def test_accept_chooses_the_answer_s_media_type(accept: str | None, expected: str | None) -> None:
    assert media.negotiate(accept, media.BODY_TYPES, default=media.JSON) == expected


def test_a_mark_of_the_byte_order_before_json_is_passed_over() -> None:
    assert decode_body(b'\xef\xbb\xbf{"step": 3}', media.JSON) == {"step": 3}


@pytest.mark.parametrize("media_type", [media.JSON, media.MSGPACK])
def test_a_compressed_body_is_called_so(media_type: str) -> None:
    with pytest.raises(ProblemError, match="compressed with gzip") as caught:
        decode_body(gzip.compress(encode_body({"step": 3}, media_type)), media_type)
    assert caught.value.status == 415


def test_events_are_read_back_as_they_were_written() -> None:
    stream = encode_event("step", {"rollout": 0, "observation": np.eye(2)}) + encode_event(
        "end", {"a": "x\ny"}
    )
    events = list(read_events(stream.decode().splitlines()))
    assert [event.name for event in events] == ["step", "end"]
    assert np.array_equal(decode_arrays(events[0].data)["observation"], np.eye(2))
    assert events[1].data == {"a": "x\ny"}


def test_comments_are_passed_over_and_a_broken_off_event_is_dropped() -> None:
    lines = [": keep alive", "", "event: step", 'data: {"a":', "data: 1}", "", "event: end", "data: {}"]
    assert list(read_events(lines)) == [("step", {"a": 1})]


@given(trees(scalars))
def test_a_digest_does_not_depend_on_the_encoding(tree: Any) -> None:
    bodies = [decode_body(encode_body(tree, kind), kind) for kind in media.BODY_TYPES]
    assert digest(bodies[0]) == digest(bodies[1])


@given(trees(scalars), trees(scalars))
def test_different_trees_have_different_digests(a: Any, b: Any) -> None:
    same_json = json.dumps(_canonical(a), sort_keys=True) == json.dumps(_canonical(b), sort_keys=True)
    assert (digest(a) == digest(b)) == same_json


def _canonical(tree: Any) -> Any:
    """As digests see it: null members are missing, whole numbers are integers."""
    if isinstance(tree, dict):
        return {key: _canonical(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [_canonical(value) for value in tree]
    return int(tree) if isinstance(tree, float) and tree.is_integer() else tree


def test_digests_see_every_element_dtype_and_shape_of_an_array() -> None:
    array = np.arange(6, dtype=np.float32)
    changed = array.copy()
    changed[5] += 1
    variants = [array, changed, array.astype(np.float64), array.reshape(2, 3), array.tolist()]
    assert len({digest({"observation": variant}) for variant in variants}) == len(variants)
    assert digest({"a": 1, "b": None}) == digest({"a": 1})
    assert digest({"a": True}) != digest({"a": 1})


def test_a_digest_is_the_one_that_stores_have_of_requests_answered_before() -> None:
    act = {
        "step": 7,
        "reward": 0.0,
        "is_first": False,
        "planner": {"samples": 8, "kappa": 0.5},
        "include": ["plan"],
        "observation": {
            "b": np.arange(6, dtype=np.float32).reshape(2, 3),
            "a": np.arange(5000, dtype=np.uint8).reshape(50, 100),
        },
        "executed_action": np.array([0.5, -1.0], np.float32),
    }
    assert digest(act).hex() == "06b7c7d438f704ae4f18c8a969bd1db7e89573bea4787a9c9a08fa3522cc8269"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.arange(6, dtype="<f4").reshape(3, 2).T.copy().T.reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    ],
)
def test_a_digest_does_not_depend_on_how_an_array_lies_in_memory(array: np.ndarray) -> None:
    plain = np.ascontiguousarray(array, dtype="<f4")
    assert digest({"observation": array}) == digest({"observation": plain})
    assert digest(np.zeros((0, 3), np.float16)) != digest(np.zeros((3, 0), np.float16))


@given(trees(scalars))
def test_msgpack_is_read_alike_with_and_without_the_dry_run(tree: Any) -> None:
    raw = encode_body(tree, media.MSGPACK)
    # Limits below those of the short way are looked at by the long one.
    assert read_msgpack(raw) == read_msgpack(raw, replace(DEFAULT_LIMITS, object_keys=63))


def test_msgpack_of_another_library_is_read() -> None:
    raw = msgpack.packb({"observation": {"dtype": "uint8", "shape": [2], "data": b"\x01\x02"}, "step": 3})
    body = decode_arrays(decode_body(raw, media.MSGPACK))
    assert body["step"] == 3
    assert same(body["observation"], np.uint8([1, 2]))
