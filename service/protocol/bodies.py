"""Whole bodies on the wire, JSON or msgpack: trees of dicts, lists, numbers, text and arrays.

The tree that the server and the clients work with holds numpy arrays; on the wire an array of one dimension
is a list in JSON (so an action is ``[0.1, -0.3]``), everything larger ``{"dtype", "shape", "data"}``; msgpack
has the latter for all. Numbers that are not finite travel as null.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import msgpack
import numpy as np

from service.protocol import media
from service.protocol.arrays import (
    EncodedImage,
    decode_array,
    encode_array,
    encoded_image_to_wire,
    is_wire_array,
)
from service.protocol.errors import ProblemError
from service.protocol.limits import DEFAULT_LIMITS, MEBIBYTE, Limits

_AS_THEY_ARE = frozenset({str, int, bool, type(None)})
_SCALARS = frozenset({int, float, bool, bytes, type(None)})
_GZIP = b"\x1f\x8b"
"""how gzip begins, and no JSON nor a map in msgpack does"""
_TOO_LONG = re.compile(r"(\d+) exceeds max_(array|map|str|bin|ext)_len\((\d+)\)")
_PARTS = {"array": "a list of {} entries", "map": "an object of {} keys", "str": "a text of {} bytes",
          "bin": "a binary of {} bytes", "ext": "an extension type of {} bytes"}  # fmt: skip


def encode_body(tree: Any, media_type: str = media.JSON) -> bytes:
    """The bytes of a body.

    Args:
        tree: dicts, lists, tuples, numbers, text, None, numpy arrays and scalars, :class:`EncodedImage`.
        media_type: ``application/json`` or ``application/msgpack``.
    """
    if media_type == media.MSGPACK:
        return pack_msgpack(to_wire(tree, binary=True))
    if media_type != media.JSON:
        raise ValueError(f"media type {media_type!r}: expected {media.JSON} or {media.MSGPACK}")
    return json.dumps(to_wire(tree, binary=False), allow_nan=False, separators=(",", ":")).encode()


def pack_msgpack(wire: Any) -> bytes:
    """The msgpack of a tree in the form in which it travels (:func:`to_wire`)."""
    packed: bytes = msgpack.packb(wire, use_bin_type=True)
    return packed


def to_wire(tree: Any, *, binary: bool) -> Any:
    """The tree with its arrays and pictures in the form in which they travel."""
    kind = type(tree)
    if kind in _AS_THEY_ARE:
        return tree
    if kind is dict:
        return {str(key): to_wire(value, binary=binary) for key, value in tree.items()}
    if kind is np.ndarray and binary and tree.ndim:
        return encode_array(tree, binary=True)
    if isinstance(tree, (str, bool)):
        return tree
    if isinstance(tree, Mapping):
        return {str(key): to_wire(value, binary=binary) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        if len(tree) > 1 and set(map(type, tree)) == {float} and all(map(math.isfinite, tree)):
            return tree if kind is list else list(tree)  # long lists of numbers
        return [to_wire(value, binary=binary) for value in tree]
    if isinstance(tree, np.ndarray):
        if tree.ndim == 0:
            return to_wire(tree.item(), binary=binary)
        listed = tree.ndim == 1 and not binary and tree.dtype.kind not in "cmMV" and tree.dtype.itemsize <= 8
        if listed and (tree.dtype.kind != "f" or np.isfinite(tree).all()):
            return tree.tolist()
        return encode_array(tree, binary=binary)
    if isinstance(tree, EncodedImage):
        return encoded_image_to_wire(tree, binary=binary)
    if isinstance(tree, np.generic):
        return to_wire(tree.item(), binary=binary)
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if isinstance(tree, (int, bytes)):
        if isinstance(tree, bytes) and not binary:
            raise TypeError("bytes cannot be sent in JSON; wrap them in an array or an EncodedImage")
        return tree
    raise TypeError(f"a {type(tree).__name__} cannot be sent")


def decode_body(raw: bytes, content_type: str | None, limits: Limits = DEFAULT_LIMITS) -> Any:
    """The tree that a body holds, as plain dicts, lists and scalars (arrays still in their wire form).

    Raises:
        ProblemError: ``unsupported_media_type``, ``body_too_large`` or ``malformed_body``.
    """
    kind = media.essence(content_type) or media.JSON
    if kind not in media.BODY_TYPES:
        raise ProblemError(
            "unsupported_media_type",
            f"Content-Type: expected {media.JSON} or {media.MSGPACK}, got {content_type}",
        )
    if len(raw) > limits.body_bytes:
        raise ProblemError(
            "body_too_large", f"a body has at most {limits.body_bytes} bytes, this one {len(raw)}"
        )
    if raw.startswith(_GZIP):
        raise ProblemError(
            "unsupported_media_type",
            "the body is compressed with gzip, which is not read here; send it as it is",
        )
    if kind == media.JSON:
        raw = raw.removeprefix(codecs.BOM_UTF8)  # which some editors and shells write
        _check_sizes(raw, limits)
        tree = _read_json(raw)
    else:
        tree = read_msgpack(raw, limits)
    check_tree(tree, limits, check_text=kind == media.JSON and b"\\u" in raw)
    return tree


def check_tree(tree: Any, limits: Limits = DEFAULT_LIMITS, *, check_text: bool = False) -> None:
    """Refuses what no request holds: deep nesting, objects with very many or very long keys, half a character.

    Raises:
        ProblemError: ``malformed_body``.
    """
    _check_tree(tree, limits.nesting, limits, check_text=check_text)


def decode_arrays(tree: Any, *, path: str = "", limits: Limits = DEFAULT_LIMITS) -> Any:
    """The tree with every array and picture in wire form replaced by a numpy array (lists stay lists)."""
    if isinstance(tree, EncodedImage) or is_wire_array(tree):
        return decode_array(tree, path=path or "body", limits=limits)
    if isinstance(tree, Mapping):
        return {
            key: decode_arrays(value, path=f"{path}.{key}" if path else str(key), limits=limits)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [decode_arrays(value, path=f"{path}[{i}]", limits=limits) for i, value in enumerate(tree)]
    return tree


def too_many(what: str, most: int, got: int) -> ProblemError:
    """The problem of a body that would take long to read."""
    return ProblemError(
        "malformed_body",
        f"a body holds at most {most} {what}, this one {got}; send large arrays with their bytes in `data`",
    )


def _check_sizes(raw: bytes, limits: Limits) -> None:
    """Bounds what reading a JSON body can take, by counting what begins a value. Text that is full of such
    characters counts too: nothing in the contract is."""
    if len(raw) <= 2 * limits.containers:  # each takes two bytes at least
        return
    containers = raw.count(b"[") + raw.count(b"{") + raw.count(b":")
    if containers > limits.containers:
        raise too_many("lists, objects and keys", limits.containers, containers)
    values = raw.count(b",")
    if values > limits.values:
        raise too_many("values", limits.values, values)


def _read_json(raw: bytes) -> Any:
    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON; send null or a finite number")

    try:
        return json.loads(raw.decode("utf-8"), parse_constant=constant)
    except RecursionError as error:
        raise ProblemError("malformed_body", "the body is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ProblemError(
            "malformed_body", f"the body is not UTF-8 (byte {error.start}); msgpack needs its Content-Type"
        ) from error
    except ValueError as error:
        if not raw.strip():
            raise ProblemError("malformed_body", "the body is empty; send a JSON object") from error
        if "integer string conversion" in str(error):
            reason = "the body has an integer of thousands of digits; numbers have at most 64 bits"
            raise ProblemError("malformed_body", reason) from error
        raise ProblemError("malformed_body", f"the body is not JSON: {str(error)[:200]}") from error


def read_msgpack(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> Any:
    """The value in a msgpack text, with bounded parts; the keys of its maps are text or bytes.

    Raises:
        ProblemError: ``malformed_body``.
    """
    if len(raw) <= min(limits.containers, limits.string_bytes, limits.values) and limits.object_keys >= _KEYS:
        try:
            return msgpack.unpackb(raw, **_MODEST)
        except Exception:  # large, or wrong: by the long way, which says how
            pass
    try:
        # A dry run first: it allocates nothing, so that a short body cannot claim huge arrays.
        dry = msgpack.Unpacker(max_buffer_size=max(len(raw), 1), **_msgpack_bounds(raw, limits))
        dry.feed(raw)
        dry.skip()
        return msgpack.unpackb(raw, **_msgpack_bounds(raw, limits), **_counting(raw, limits))
    except msgpack.ExtraData as error:
        raise ProblemError("malformed_body", "the body has bytes after its msgpack value") from error
    except msgpack.StackError as error:
        raise ProblemError("malformed_body", "the body is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ProblemError("malformed_body", "the body is not msgpack: a text in it is not UTF-8") from error
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error)[:200] or "it ends early, or begins as no value does"
        if "map key" in reason:
            reason = "the keys of an object must be text"
        elif "No more data" in reason:
            reason = "it ends early"
        too_long = _TOO_LONG.search(reason)
        if too_long:
            size, part, most = too_long.groups()
            reason = f"{_PARTS[part].format(size)}, where at most {most} are allowed"
        raise ProblemError("malformed_body", f"the body is not msgpack: {reason}") from error


_KEYS = 64
_MODEST: dict[str, Any] = {
    "raw": False,
    "strict_map_key": True,
    "max_str_len": MEBIBYTE,
    "max_bin_len": MEBIBYTE,
    "max_array_len": 256,
    "max_map_len": _KEYS,
    "max_ext_len": 0,
}
"""bounds within which no dry run is needed: what is claimed, nested as deep as msgpack can, takes a few megabytes"""


def _msgpack_bounds(raw: bytes, limits: Limits) -> dict[str, Any]:
    return {
        "raw": False,
        "strict_map_key": True,
        "max_str_len": limits.string_bytes,
        "max_bin_len": limits.string_bytes,
        "max_array_len": min(len(raw), limits.values),
        "max_map_len": min(len(raw), limits.object_keys),
        "max_ext_len": 0,  # no extension types, timestamps included
    }


def _counting(raw: bytes, limits: Limits) -> dict[str, Any]:
    """What bounds all lists and objects of a msgpack text together, and their entries."""
    if len(raw) <= limits.containers:  # each takes a byte at least
        return {}
    containers, values = 0, 0

    def count(parts: int, entries: int) -> None:
        nonlocal containers, values
        containers, values = containers + parts, values + entries
        if containers > limits.containers:
            raise too_many("lists, objects and keys", limits.containers, containers)
        if values > limits.values:
            raise too_many("values", limits.values, values)

    def listed(items: list[Any]) -> list[Any]:
        count(1, len(items))
        return items

    def named(items: dict[Any, Any]) -> dict[Any, Any]:
        count(1 + len(items), len(items))
        return items

    return {"list_hook": listed, "object_hook": named}


def _check_tree(tree: Any, depth: int, limits: Limits, *, check_text: bool) -> None:
    """Bounded nesting, text keys, and text that UTF-8 can write (JSON can escape half a surrogate pair)."""
    kind = type(tree)
    if kind is dict:
        if depth == 0:
            raise ProblemError("malformed_body", f"the body is nested deeper than {limits.nesting}")
        if len(tree) > limits.object_keys:
            most = limits.object_keys
            raise ProblemError("malformed_body", f"an object has at most {most} keys, one has {len(tree)}")
        for key, value in tree.items():
            if type(key) is not str:
                raise ProblemError("malformed_body", "the keys of an object must be text")
            if len(key) > limits.key_characters:
                most = limits.key_characters
                raise ProblemError("malformed_body", f"a key has at most {most} characters, one {len(key)}")
            if check_text:
                _check_text(key)
            if type(value) not in _SCALARS:
                _check_tree(value, depth - 1, limits, check_text=check_text)
    elif kind is list:
        if depth == 0:
            raise ProblemError("malformed_body", f"the body is nested deeper than {limits.nesting}")
        if set(map(type, tree)) <= _SCALARS:
            return
        for value in tree:
            _check_tree(value, depth - 1, limits, check_text=check_text)
    elif kind is str:
        if check_text:
            _check_text(tree)
    elif kind not in _SCALARS:
        raise ProblemError("malformed_body", f"the body holds a {kind.__name__}")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ProblemError("malformed_body", "the body has text with half a surrogate pair") from error
