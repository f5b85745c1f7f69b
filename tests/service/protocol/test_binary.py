"""Base64 in the forms in which people's programs write it."""

from __future__ import annotations

import base64
import textwrap
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.protocol.arrays import decode_array, encode_image
from service.protocol.binary import read_data
from service.protocol.errors import ProblemError

PICTURE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
PNG = encode_image(PICTURE, "png").data
JPEG = encode_image(PICTURE, "jpeg").data
TEXT = base64.b64encode(PNG).decode()


@given(st.binary(max_size=200), st.integers(1, 80), st.sampled_from(["\n", "\r\n", " ", "\t", "\n    "]))
def test_every_usual_form_of_base64_is_read(data: bytes, width: int, between: str) -> None:
    text = base64.b64encode(data).decode()
    forms = [text, text.rstrip("="), between.join(textwrap.wrap(text, width)) + between]
    forms += [form.translate(str.maketrans("+/", "-_")) for form in forms]
    forms += [f"data:application/octet-stream;base64,{form}" for form in forms]
    for form in forms:
        assert read_data(form, "x") == data


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not base64!", "has '!' at 10"),
        ("ünïcode=", "has 'ü' at 0"),
        ("AAAA=AAA", "has '=' at 4, before its end"),
        ("AAAAA", "no whole number of bytes; it may be cut short"),
        ("AA====", "ends in 4 '=', where 2 belong"),
        ("A+A-", "mixes the standard alphabet"),
        ("data:text/plain,hello", "expected a data URI with ;base64,"),
        ("data:;base64", "expected a data URI with ;base64,"),
        (f"data:image/png;base64,{TEXT}", "a data URI of a picture"),
        (7, "expected base64 text (JSON) or binary (msgpack), got 7"),
    ],
)
def test_what_is_no_base64_is_explained(text: Any, says: str) -> None:
    with pytest.raises(ProblemError) as refused:
        read_data(text, "observation.data")
    (error,) = refused.value.errors
    assert error.path == "observation.data" and says in error.message


@pytest.mark.parametrize(
    "value",
    [
        {"encoding": "png", "data": PNG},
        {"encoding": "png", "data": TEXT},
        {"encoding": "png", "data": f"data:image/png;base64,{TEXT}"},
        {"encoding": "png", "data": f"DATA:image/PNG;charset=utf-8;BASE64,{TEXT}"},
        {"encoding": "png", "data": f"data:;base64,{TEXT}"},
        {"encoding": "png", "data": f"data:image/png;base64,{TEXT.replace('+', '%2B').replace('=', '%3D')}"},
        f"data:image/png;base64,{TEXT}",
        f"  \n data:image/png;base64,{TEXT}",
        f"data:image/png;base64,\n{textwrap.fill(TEXT, 76)}\n",
    ],
)
def test_a_picture_may_come_as_a_data_uri(value: Any) -> None:
    assert np.array_equal(decode_array(value), PICTURE)


@pytest.mark.parametrize("kind", ["image/jpeg", "image/jpg"])
def test_a_data_uri_names_its_encoding(kind: str) -> None:
    text = base64.b64encode(JPEG).decode()
    assert decode_array(f"data:{kind};base64,{text}").shape == PICTURE.shape
    assert decode_array({"encoding": "jpeg", "data": f"data:{kind};base64,{text}"}).shape == PICTURE.shape


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        (
            {"encoding": "jpeg", "data": f"data:image/png;base64,{TEXT}"},
            "x.data",
            "of image/png, `encoding` says jpeg",
        ),
        (
            f"data:image/gif;base64,{TEXT}",
            "x",
            "image/png, image/jpeg, image/jpg, image/webp, got one of 'image/gif'",
        ),
        (f"data:image/jpeg;base64,{TEXT}", "x.data", "not a readable jpeg picture"),
        (TEXT, "x", "a picture is an object"),
        ({"encoding": "jpg", "data": JPEG}, "x.encoding", "did you mean 'jpeg'?"),
        ({"encoding": "PNG", "data": PNG}, "x.encoding", "did you mean 'png'?"),
        ({"encoding": "png", "data": TEXT.encode()}, "x.data", "they look like base64 text"),
        (
            {"encoding": "png", "data": b"data:image/png;base64," + TEXT.encode()},
            "x.data",
            "they look like base64 text",
        ),
        (
            {"dtype": "uint8", "shape": [60], "data": base64.b64encode(bytes(60))},
            "x.data",
            "look like base64 text",
        ),
    ],
)
def test_a_picture_that_is_not_what_it_says_is_reported(value: Any, path: str, says: str) -> None:
    with pytest.raises(ProblemError) as refused:
        decode_array(value, path="x")
    (error,) = refused.value.errors
    assert error.path == path and says in error.message
