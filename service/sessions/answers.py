"""Answers of acts: as values, as the bytes that are stored and sent, and as they are given again."""

from __future__ import annotations

from typing import Any

from service.protocol import media
from service.protocol.bodies import decode_arrays, decode_body, encode_body
from service.protocol.limits import Limits


class ActAnswer(dict[str, Any]):
    """An answer as plain values with numpy arrays in them, and as it is stored.

    Args:
        answer: by the names of the contract.
        packed: the same as msgpack: the bytes that a msgpack client gets.
    """

    def __init__(self, answer: dict[str, Any], packed: bytes) -> None:
        super().__init__(answer)
        self.packed = packed


def replayed(stored: bytes) -> ActAnswer:
    """A stored answer, marked as such."""
    wire = {**decode_body(stored, media.MSGPACK, _STORED), "replayed": True}
    return ActAnswer(decode_arrays(wire), encode_body(wire, media.MSGPACK))


_STORED = Limits(
    body_bytes=2**31,
    array_bytes=2**31,
    string_bytes=2**31,
    nesting=200,
    image_pixels=2**31,
    array_dimensions=32,
    object_keys=2**31,
    key_characters=2**31,
    containers=2**31,
    values=2**31,
)
"""what the server stored itself needs no bounds"""
