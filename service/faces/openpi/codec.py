"""Messages of the openpi policy protocol: msgpack with numpy arrays in it.

An array comes in one of two forms, both with their keys as text or as bytes:

- ``{"__ndarray__": true, "data", "dtype", "shape"}``, as ``openpi_client.msgpack_numpy`` packs it (and
  ``{"__npgeneric__", "data", "dtype"}``, a numpy scalar);
- ``{"nd": true, "type", "kind", "shape", "data"}``, as the ``msgpack-numpy`` package packs it (``nd`` false: a
  numpy scalar).

Neither package's reader is used: both let the message choose the type, and one unpickles. Here a dtype is one of
those that may travel, sizes must agree, and everything is bounded. Whatever else these packages can pack (Python
objects, records, complex numbers, text, dates) is refused by its name, before numpy sees it.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import msgpack
import numpy as np

from service.protocol.bodies import read_msgpack
from service.protocol.errors import ProblemError, invalid, show
from service.protocol.limits import Limits

_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])|bool|u?int(8|16|32|64)|float(16|32|64)")
_EXPECTED = "expected bool, (u)int8..64 or float16..64, as '<f4' or 'float32'"
_UNFIT = {
    "O": "Python objects: they would have to be unpickled",
    "V": "records (a structured dtype): send one array for each of their fields",
    "c": "complex numbers: send their real and imaginary parts",
    "U": "text",
    "S": "byte strings",
    "M": "dates",
    "m": "time spans",
}
"""what other dtypes hold, by the letter of their kind"""


class Unpacked(NamedTuple):
    """A message as it was read."""

    tree: dict[str, Any]
    """text keys, with numpy arrays in it"""
    plain_form: bool
    """whether its arrays came in the form of the ``msgpack-numpy`` package, which its sender reads too"""


def unpack(raw: bytes, limits: Limits) -> Unpacked:
    """The message that a client sent.

    Raises:
        ProblemError: ``body_too_large``, ``malformed_body``, ``invalid_request``.
    """
    if len(raw) > limits.body_bytes:
        raise ProblemError(
            "body_too_large", f"a message has at most {limits.body_bytes} bytes, got {len(raw)}"
        )
    reader = _Reader(limits)
    tree = reader.read(read_msgpack(raw, limits), "", limits.nesting)
    if not isinstance(tree, dict):
        raise invalid("message", f"expected a map, got {show(tree)}")
    return Unpacked(tree, reader.forms == {"nd"})


def pack(tree: Any, *, plain_form: bool = False) -> bytes:
    """A message for the client.

    Args:
        tree: dicts, lists, numbers, text, numpy arrays and scalars.
        plain_form: arrays as the ``msgpack-numpy`` package reads them, instead of ``openpi_client``.
    """
    packed: bytes = msgpack.packb(tree, default=_nd_form if plain_form else _openpi_form)
    return packed


def _openpi_form(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    little = _little(value)
    return {
        b"__ndarray__": True,
        b"data": little.tobytes(),
        b"dtype": little.dtype.str,
        b"shape": list(value.shape),
    }


def _nd_form(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    little = _little(value)
    return {
        b"nd": True,
        b"type": little.dtype.str,
        b"kind": b"",
        b"shape": list(value.shape),
        b"data": little.tobytes(),
    }


def _little(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise TypeError(f"a {type(value).__name__} cannot be sent")
    return np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))


class _Reader:
    """Puts the arrays of one message together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.forms = set[str]()
        """the forms of arrays that came"""

    def read(self, value: Any, path: str, depth: int) -> Any:
        """``value`` with its arrays as numpy arrays, and the keys of its maps as text."""
        if isinstance(value, (list, dict)) and depth == 0:
            reason = f"the message is nested deeper than {self._limits.nesting}"
            raise ProblemError("malformed_body", reason)
        if isinstance(value, list):
            if set(map(type, value)) <= {int, float, bool}:
                return value
            return [self.read(item, f"{path}[{i}]", depth - 1) for i, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        named = {_text(key): item for key, item in value.items()}
        if "__ndarray__" in named:
            self.forms.add("__ndarray__")
            return self._array(named, "dtype", path)
        if "__npgeneric__" in named:
            return _plain_scalar(named.get("data"), path)
        if "type" in named and type(named.get("nd")) is bool:
            _check_kind(named, path)
            self.forms.add("nd")
            if named["nd"]:
                return self._array(named, "type", path)
            return self._array({**named, "shape": []}, "type", path).item()
        if named.keys() == {"complex", "data"}:
            raise invalid(path, f"{_EXPECTED}, got {_UNFIT['c']}")
        return {key: self.read(item, _at(path, key[:60]), depth - 1) for key, item in named.items()}

    def _array(self, named: dict[str, Any], dtype_key: str, path: str) -> np.ndarray:
        limits = self._limits
        dtype, shape, data = (
            _dtype(named.get(dtype_key), _at(path, dtype_key)),
            named.get("shape"),
            named.get("data"),
        )
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise invalid(_at(path, "shape"), f"expected a list of sizes, got {show(shape)}")
        if len(shape) > limits.array_dimensions:
            raise invalid(
                _at(path, "shape"), f"at most {limits.array_dimensions} dimensions, got {len(shape)}"
            )
        size = math.prod(shape) * dtype.itemsize
        if size > limits.array_bytes:
            raise invalid(
                _at(path, "shape"), f"an array has at most {limits.array_bytes} bytes, this one {size}"
            )
        if not isinstance(data, bytes) or len(data) != size:
            raise invalid(
                _at(path, "data"),
                f"{dtype.name} of shape {tuple(shape)} takes {size} bytes, got {show(data)}",
            )
        if dtype.kind == "b" and data and max(data) > 1:
            raise invalid(_at(path, "data"), "a bool is a byte 0 or 1")
        return np.frombuffer(data, dtype).reshape(shape)


def _dtype(name: Any, path: str) -> np.dtype[Any]:
    """The dtype of that name; only a plain one is ever shown to numpy."""
    if isinstance(name, list):
        raise invalid(path, f"{_EXPECTED}, got {_UNFIT['V']}")
    text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        held = _UNFIT.get(text.lstrip("<>|=")[:1]) if isinstance(text, str) else None
        raise invalid(path, f"{_EXPECTED}, got {show(text)}" + (f", {held}" if held else ""))
    return np.dtype(text)


def _check_kind(named: dict[str, Any], path: str) -> None:
    """``kind`` of the ``msgpack-numpy`` form: empty or absent, or the letter of the dtype's kind; ``O`` and ``V``
    would have its reader unpickle objects, or build a type that the message describes."""
    kind = named.get("kind", "")
    letter = kind.decode("ascii", "replace") if isinstance(kind, bytes) else kind
    if letter in ("", None):
        return
    if not isinstance(letter, str) or letter in _UNFIT:
        held = _UNFIT.get(letter, "") if isinstance(letter, str) else ""
        raise invalid(_at(path, "kind"), f"{_EXPECTED}, got {show(letter)}" + (f", {held}" if held else ""))
    own = _dtype(named["type"], _at(path, "type")).kind
    if letter != own:
        raise invalid(_at(path, "kind"), f"expected nothing, or {own!r} as in the type, got {show(letter)}")


def _plain_scalar(scalar: Any, path: str) -> Any:
    if not isinstance(scalar, (int, float, str)):
        raise invalid(path, f"expected a number as the data of a numpy scalar, got {show(scalar)}")
    return scalar


def _at(path: str, name: str) -> str:
    """Where a member of the map at ``path`` is; the message itself has no name."""
    return f"{path}.{name}" if path else name


def _text(key: str | bytes) -> str:
    if isinstance(key, str):
        return key
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise ProblemError("malformed_body", "the keys of a map must be text") from error
