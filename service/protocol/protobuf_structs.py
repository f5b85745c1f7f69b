"""Structs and lists of protobuf, which hold what JSON would carry, and the values in them."""

from __future__ import annotations

import math
from typing import Any

from service.protocol.bodies import to_wire
from service.protocol.errors import ProblemError, invalid


def read_struct(message: Any) -> dict[str, Any]:
    """The dict that a Struct holds.

    Raises:
        ProblemError: a number in it is none; it names which.
    """
    return {key: _plain(value, key) for key, value in message.fields.items()}


def _plain(value: Any, path: str) -> Any:
    """Structs have only doubles; whole ones were integers."""
    kind = value.WhichOneof("kind")
    try:
        if kind == "struct_value":
            return read_struct(value.struct_value)
        if kind == "list_value":
            return read_list(value.list_value)
    except ProblemError as problem:
        raise problem.within(path) from None
    plain = None if kind in (None, "null_value") else getattr(value, kind)
    if not isinstance(plain, float):
        return plain
    if not math.isfinite(plain):
        raise invalid(path, "expected a finite number")
    return int(plain) if plain.is_integer() else plain


def write_struct(message: Any, value: Any) -> None:
    """Fill a Struct."""
    message.update(to_wire(value, binary=False))


def read_list(message: Any) -> Any:
    """The list that a ListValue holds."""
    return [_plain(value, f"[{place}]") for place, value in enumerate(message.values)]


def write_list(message: Any, value: Any) -> None:
    """Fill a ListValue."""
    message.extend(to_wire(list(value), binary=False))
