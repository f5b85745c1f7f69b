"""A fingerprint of a request's content, equal for equal content in any encoding.

A retried step is told from a new one by its content: the client may send it as JSON the first time and as
msgpack the second, so the digest is taken of the decoded tree, not of the bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from service.protocol.arrays import EncodedImage, encode_array


def digest(tree: Any) -> bytes:
    """32 bytes that name the content of ``tree``.

    Dict entries count in any order, those that are None count as missing; numbers count by value, arrays by
    dtype, shape and elements (decode observations to the space's dtype first).
    """
    state = hashlib.sha256()
    _feed(state, tree)
    return state.digest()


def _feed(state: Any, tree: Any) -> None:
    if tree is None:
        state.update(b"n")
    elif isinstance(tree, (bool, np.bool_)):
        state.update(b"t" if tree else b"f")
    elif isinstance(tree, (int, float, np.integer, np.floating)):
        value = tree.item() if isinstance(tree, np.generic) else tree
        whole = isinstance(value, int) or value.is_integer()
        state.update(b"i%d;" % int(value) if whole else b"d" + struct.pack("<d", value))
    elif isinstance(tree, str):
        text = tree.encode()
        state.update(b"s%d:" % len(text) + text)
    elif isinstance(tree, bytes):
        state.update(b"b%d:" % len(tree) + tree)
    elif isinstance(tree, np.ndarray):
        form = encode_array(tree, binary=True)
        state.update(f"a{form['dtype']}{form['shape']}".encode())
        state.update(form["data"])
    elif isinstance(tree, EncodedImage):
        state.update(f"p{tree.encoding}{len(tree.data)}:".encode() + tree.data)
    elif isinstance(tree, Mapping):
        items = sorted((str(key), value) for key, value in tree.items() if value is not None)
        state.update(b"m%d:" % len(items))
        for key, value in items:
            _feed(state, key)
            _feed(state, value)
    elif isinstance(tree, (list, tuple)):
        state.update(b"l%d:" % len(tree))
        for value in tree:
            _feed(state, value)
    else:
        raise TypeError(f"a {type(tree).__name__} has no digest")
