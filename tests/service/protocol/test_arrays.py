"""One array on the wire."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from service.protocol.arrays import (
    DTYPES,
    EncodedImage,
    decode_array,
    encode_array,
    encode_image,
    encoded_image_to_wire,
)
from service.protocol.errors import ProblemError
from service.protocol.limits import Limits
from tests.service.protocol.strategies import arrays, same


@given(arrays(), st.booleans())
def test_every_array_comes_back_bit_by_bit(array: np.ndarray, binary: bool) -> None:
    assert same(decode_array(encode_array(array, binary=binary)), array)


@given(hnp.arrays(st.sampled_from(["<i4", ">i4", "<f8", ">f8"]), (3, 2)))
def test_the_byte_order_on_the_wire_is_little_endian(array: np.ndarray) -> None:
    form = encode_array(array, binary=True)
    little = np.frombuffer(form["data"], "<" + array.dtype.str[1:]).reshape(3, 2)
    assert np.array_equal(little, array, equal_nan=array.dtype.kind == "f")


@given(hnp.arrays(np.int64, hnp.array_shapes(max_dims=3, max_side=4), elements=st.integers(-(2**40), 2**40)))
def test_nested_lists_are_arrays_too(array: np.ndarray) -> None:
    assert np.array_equal(decode_array(array.tolist()), array)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_layout_does_not_matter(order: Any) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4), order=order)
    assert same(decode_array(encode_array(array, binary=True)), array)
    assert same(decode_array(encode_array(array[:, ::-1], binary=True)), array[:, ::-1])


pictures = hnp.arrays(np.uint8, st.sampled_from([(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4), (1, 1, 3)]))


@given(pictures, st.sampled_from(["png", "webp"]), st.booleans())
def test_png_and_webp_pictures_come_back_exactly(picture: np.ndarray, encoding: str, binary: bool) -> None:
    channels = picture.shape[2] if picture.ndim == 3 else 1
    if channels == 4:
        picture[..., 3] = 255  # webp may drop the colour of what is transparent
    form = encoded_image_to_wire(encode_image(picture, encoding), binary=binary)
    assert np.array_equal(decode_array(form, channels=channels).reshape(picture.shape), picture)


def test_jpeg_pictures_come_back_nearly() -> None:
    y, x = np.mgrid[0:64, 0:64]
    picture = np.stack([x * 4, y * 4, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    again = decode_array(encoded_image_to_wire(encode_image(picture, "jpeg"), binary=True), channels=3)
    assert again.shape == picture.shape
    assert np.abs(again.astype(int) - picture).mean() < 3


def test_a_palette_picture_is_decoded_in_its_true_colours() -> None:
    image = Image.fromarray(np.full((4, 4, 3), (250, 10, 10), np.uint8)).convert(
        "P", palette=Image.Palette.ADAPTIVE
    )
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    again = decode_array(EncodedImage("png", buffer.getvalue()), channels=3)
    assert again.shape == (4, 4, 3)
    assert again[0, 0, 0] > 240 and again[0, 0, 1] < 20


PNG = encoded_image_to_wire(encode_image(np.zeros((4, 4, 3), np.uint8), "png"), binary=True)["data"]
ZEROS = base64.b64encode(bytes(12)).decode()


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ("zeros", "x", "expected an array, got 'zeros'"),
        (None, "x", "got null"),
        ([[1, 2], [3]], "x", "rectangular"),
        ([1, "2"], "x", "got '2'"),
        ([1, None], "x", "got null"),
        ([1, {"a": 1}], "x", "got an object"),
        ([2**70], "x", "64 bits"),
        (2**70, "x", "64 bits"),
        ([[[[[[[[[0]]]]]]]]], "x", "at most 8 dimensions"),
        ({}, "x", "keys none"),
        ({"dtype": "uint8", "data": ""}, "x", "data, dtype"),
        ({"dtype": "object", "shape": [1], "data": ""}, "x.dtype", "got 'object'"),
        ({"dtype": ">f4", "shape": [3], "data": ZEROS}, "x.dtype", "got '>f4'"),
        ({"dtype": ["uint8"], "shape": [3], "data": ZEROS}, "x.dtype", "a list"),
        ({"dtype": "float32", "shape": 3, "data": ZEROS}, "x.shape", "a list of sizes, got 3"),
        ({"dtype": "float32", "shape": [-3], "data": ZEROS}, "x.shape", "[-3]"),
        ({"dtype": "float32", "shape": [True], "data": ZEROS}, "x.shape", "list of sizes"),
        ({"dtype": "float32", "shape": [1] * 9, "data": ZEROS}, "x.shape", "at most 8 dimensions"),
        ({"dtype": "float32", "shape": [2**40, 2**40], "data": ZEROS}, "x.shape", "at most"),
        ({"dtype": "float32", "shape": [2], "data": ZEROS}, "x.data", "takes 8 bytes, got 12"),
        ({"dtype": "float32", "shape": [3], "data": "not base64!"}, "x.data", "not base64"),
        ({"dtype": "float32", "shape": [3], "data": "ünïcode="}, "x.data", "not base64"),
        ({"dtype": "float32", "shape": [3], "data": [0] * 12}, "x.data", "expected base64 text"),
        ({"dtype": "bool", "shape": [1], "data": b"\x02"}, "x.data", "0 or 1"),
        ({"encoding": "gif", "data": PNG}, "x.encoding", "png, jpeg, webp"),
        ({"encoding": "jpeg", "data": PNG}, "x.data", "not a readable jpeg"),
        ({"encoding": "png", "data": PNG[:40]}, "x.data", "not a readable png"),
        ({"encoding": "png", "data": b""}, "x.data", "not a readable png picture: it is empty"),
        ({"encoding": "png", "data": PNG[:8]}, "x.data", "cut short after 8 bytes"),
        ({"encoding": "png", "data": PNG[:3]}, "x.data", "cut short after 3 bytes"),
        ({"encoding": "png", "data": b"x" + PNG}, "x.data", "begin otherwise"),
    ],
)
def test_what_is_no_array_is_refused_by_place_and_reason(value: Any, path: str, message: str) -> None:
    with pytest.raises(ProblemError) as caught:
        decode_array(value, path="x")
    (error,) = caught.value.errors
    assert error.path == path
    assert message in error.message
    assert caught.value.status == 422


@given(st.binary(max_size=200), st.sampled_from(["png", "jpeg", "webp"]))
def test_damaged_pictures_are_refused_not_crashed_on(noise: bytes, encoding: str) -> None:
    head = {
        "png": PNG[:33],
        "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
        "webp": b"RIFF\x00\x01\x00\x00WEBPVP8 ",
    }
    with pytest.raises(ProblemError):
        decode_array({"encoding": encoding, "data": head[encoding] + noise})


def test_a_picture_bomb_is_refused_by_its_header() -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 100_000
    with pytest.raises(ProblemError, match="pixels"):
        decode_array({"encoding": "png", "data": buffer.getvalue()})


def test_arrays_beyond_the_limit_are_refused_in_every_form() -> None:
    limits = Limits(array_bytes=100, image_pixels=10)
    zeros = np.zeros(101, np.uint8)
    forms = (encode_array(zeros, binary=True), zeros.tolist(), {"encoding": "png", "data": PNG})
    for form in forms:
        with pytest.raises(ProblemError, match="at most"):
            decode_array(form, limits=limits)


def test_long_text_among_numbers_is_refused_before_numpy_pads_it() -> None:
    # As an array of text this would take 4 * 10^5 * 10^5 bytes.
    with pytest.raises(ProblemError, match="numbers only"):
        decode_array([0] * 100_000 + ["x" * 100_000])


@pytest.mark.parametrize("dtype", ["object", "complex64", "datetime64[s]", "S4", "U4"])
def test_arrays_that_may_not_travel_are_not_encoded(dtype: str) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        encode_array(np.zeros(2, dtype), binary=True)


def test_the_contract_has_all_twelve_element_types_but_no_more() -> None:
    assert len(DTYPES) == 12
    assert all(dtype.isnative or dtype.str[0] == "<" for dtype in DTYPES.values())
