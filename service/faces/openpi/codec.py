"""Messages of the openpi policy protocol: msgpack whose arrays are maps with ``__ndarray__``.

This is the format of ``openpi_client.msgpack_numpy``, read without unpickling anything and without letting a
message choose types: a dtype is one of those that may travel, sizes must agree, and everything is bounded.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
import numpy as np

from service.protocol.arrays import show
from service.protocol.bodies import read_msgpack
from service.protocol.errors import ProblemError, invalid
from service.protocol.limits import Limits

_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


def unpack(raw: bytes, limits: Limits) -> dict[str, Any]:
    """The message that a client sent: a dict of text keys, with numpy arrays in it.

    Raises:
        ProblemError: ``body_too_large``, ``malformed_body``, ``invalid_request``.
    """
    if len(raw) > limits.body_bytes:
        raise ProblemError(
            "body_too_large", f"a message has at most {limits.body_bytes} bytes, got {len(raw)}"
        )
    tree = _read(read_msgpack(raw, limits), "observation", limits, limits.nesting)
    if not isinstance(tree, dict):
        raise invalid("observation", f"expected a map, got {show(tree)}")
    return tree


def pack(tree: Any) -> bytes:
    """A message for the client; arrays as it expects them."""
    packed: bytes = msgpack.packb(tree, default=_array)
    return packed


def _array(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        return {
            b"__ndarray__": True,
            b"data": little.tobytes(),
            b"dtype": little.dtype.str,
            b"shape": list(value.shape),
        }
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot travel")


def _read(value: Any, path: str, limits: Limits, depth: int) -> Any:
    """Maps with arrays put together; their keys as text, as newer and older clients send them."""
    if isinstance(value, (list, dict)) and depth == 0:
        raise ProblemError("malformed_body", f"the message is nested deeper than {limits.nesting}")
    if isinstance(value, list):
        if set(map(type, value)) <= {int, float, bool}:
            return value
        return [_read(item, f"{path}[{i}]", limits, depth - 1) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    named = {_text(key): item for key, item in value.items()}
    if "__ndarray__" in named:
        return _read_array(named, path, limits)
    if "__npgeneric__" in named:
        scalar = named.get("data")
        if not isinstance(scalar, (int, float, str)):
            raise invalid(path, f"expected a number as the data of a numpy scalar, got {show(scalar)}")
        return scalar
    return {key: _read(item, f"{path}.{key[:60]}", limits, depth - 1) for key, item in named.items()}


def _read_array(named: dict[str, Any], path: str, limits: Limits) -> np.ndarray:
    dtype, shape, data = named.get("dtype"), named.get("shape"), named.get("data")
    dtype = _text(dtype) if isinstance(dtype, (str, bytes)) else ""
    if not _DTYPE.fullmatch(dtype):
        raise invalid(f"{path}.dtype", f"expected bool, (u)int8..64 or float16..64, got {show(dtype)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise invalid(f"{path}.shape", f"expected a list of sizes, got {show(shape)}")
    if len(shape) > limits.array_dimensions:
        raise invalid(f"{path}.shape", f"at most {limits.array_dimensions} dimensions, got {len(shape)}")
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size > limits.array_bytes:
        raise invalid(f"{path}.shape", f"an array has at most {limits.array_bytes} bytes, this one {size}")
    if not isinstance(data, bytes) or len(data) != size:
        raise invalid(
            f"{path}.data", f"{kind.name} of shape {tuple(shape)} takes {size} bytes, got {show(data)}"
        )
    if kind.kind == "b" and data and max(data) > 1:
        raise invalid(f"{path}.data", "a bool is a byte 0 or 1")
    return np.frombuffer(data, kind).reshape(shape)


def _text(key: str | bytes) -> str:
    if isinstance(key, str):
        return key
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise ProblemError("malformed_body", "the keys of a map must be text") from error
