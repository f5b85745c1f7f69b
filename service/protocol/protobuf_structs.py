"""Structs and lists of protobuf, which hold what JSON would carry, and the values in them."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format

from service.protocol.bodies import to_wire
from service.protocol.errors import invalid


def read_struct(message: Any) -> dict[str, Any]:
    """The dict that a Struct holds.

    Raises:
        ProblemError: a number in it is none.
    """
    plain: dict[str, Any] = _plain(message)
    return plain


def _plain(message: Any) -> Any:
    try:
        return _whole(json_format.MessageToDict(message))
    except ValueError as error:
        raise invalid("other", "expected finite numbers, got NaN or Infinity") from error


def _whole(value: Any) -> Any:
    """Structs have only doubles; whole ones were integers."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def write_struct(message: Any, value: Any) -> None:
    """Fill a Struct."""
    message.update(to_wire(value, binary=False))


def read_list(message: Any) -> Any:
    """The list that a ListValue holds."""
    return _plain(message)


def write_list(message: Any, value: Any) -> None:
    """Fill a ListValue."""
    message.extend(to_wire(list(value), binary=False))
