"""A fingerprint of a request's content, equal for equal content in any encoding.

A retried step is distinguished from a new one by its content: the client may send it as JSON the first time and as
msgpack the second, so the digest is taken of the decoded tree, not of the bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np

from service.protocol.arrays import EncodedImage, encode_array, little_endian_name

_PIECE = 2047
"""bytes that are hashed at once: for more, hashlib lets go of the interpreter's lock, and getting it back from a
busy worker takes longer than the hash"""
_NOTHING = hashlib.sha256()
"""copied for each digest: OpenSSL looks up an algorithm by its name whenever one is made"""
_LONG = 32 * _PIECE
"""of what is longer the rest is hashed without the lock"""


def digest(tree: Any) -> bytes:
    """32 bytes that name the content of ``tree``.

    Dict entries count in any order, those that are None count as missing; numbers count by value, arrays by
    dtype, shape and elements (decode observations to the space's dtype first).
    """
    parts: list[bytes | memoryview] = []
    _collect(parts, tree)
    whole = memoryview(b"".join(parts))
    found = _NOTHING.copy()
    for begin in range(0, min(len(whole), _LONG), _PIECE):
        found.update(whole[begin : begin + _PIECE])
    if len(whole) > _LONG:
        found.update(whole[_LONG:])
    return found.digest()


def _collect(parts: list[bytes | memoryview], tree: Any) -> None:
    kind = type(tree)
    if (scalar := _SCALARS.get(kind)) is not None:
        parts.append(scalar(tree))
    elif kind is np.ndarray:
        name = little_endian_name(tree)
        if name is not None and tree.ndim and tree.flags.c_contiguous:
            parts += (_array(name, tree.shape), tree.data)
        else:
            form = encode_array(tree, binary=True)
            parts += (_array(form["dtype"], tuple(form["shape"])), form["data"])
    elif kind is list or kind is tuple:
        parts.append(b"l%d:" % len(tree))
        for value in tree:
            _collect(parts, value)
    elif kind is dict or isinstance(tree, Mapping):
        items = sorted([(str(key), value) for key, value in tree.items() if value is not None], key=_first)
        parts.append(b"m%d:" % len(items))
        for key, value in items:
            parts.append(_name(key) if len(key) < _SHORT else _text(key))
            if (scalar := _SCALARS.get(type(value))) is not None:  # most are: a call less
                parts.append(scalar(value))
            else:
                _collect(parts, value)
    elif isinstance(tree, (list, tuple)):
        _collect(parts, list(tree))
    elif isinstance(tree, (float, np.integer, np.floating)):
        value = tree.item() if isinstance(tree, np.generic) else tree
        parts.append(_whole(value) if isinstance(value, int) else _number(float(value)))
    elif isinstance(tree, bytes):
        parts.append(b"b%d:" % len(tree) + tree)
    elif isinstance(tree, EncodedImage):
        parts.append(f"p{tree.encoding}{len(tree.data)}:".encode() + tree.data)
    elif isinstance(tree, (str, int)):  # of a class of its own
        _collect(parts, str(tree) if isinstance(tree, str) else int(tree))
    else:
        raise TypeError(f"a {type(tree).__name__} has no digest")


@lru_cache(1024)
def _array(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What stands before an array's elements."""
    return f"a{dtype}{list(shape)}".encode()


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"s%d:%b" % (len(encoded), encoded)


def _whole(number: int) -> bytes:
    return b"i%d;" % number


def _number(number: float) -> bytes:
    return _whole(int(number)) if number.is_integer() else b"d" + struct.pack("<d", number)


def _truth(value: bool) -> bytes:
    return b"t" if value else b"f"


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    str: _text,
    bool: _truth,
    np.bool_: _truth,
    int: _whole,
    float: _number,
    type(None): lambda _: b"n",
}
_first = itemgetter(0)
_SHORT = 64
"""characters; longer keys are not remembered"""
_name = lru_cache(1024)(_text)
"""the keys of requests: the same few, again and again"""
