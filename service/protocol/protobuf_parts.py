"""How many parts a protobuf message has, counted before it is parsed.

Parsing cannot be interrupted, and what it makes of a few megabytes of tiny parts takes long. This walks over
the wire format (https://protobuf.dev/programming-guides/encoding), goes into messages alone, and stops at
the bound, so that bytes cost nothing.
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5


def count_parts(raw: bytes, kind: Descriptor, most: int) -> int:
    """The fields in a message and in the messages within it; more than ``most`` are not counted to the end.

    A message that is damaged has as many as are found until there: the parser will say what is wrong.
    """
    parts = 0
    todo: list[tuple[int, int, Descriptor]] = [(0, len(raw), kind)]
    while todo and parts <= most:
        at, end, kind = todo.pop()
        fields = kind.fields_by_number
        while at < end and parts <= most:
            parts += 1
            tag, at = _varint(raw, at)
            wire = tag & 7
            if wire == _VARINT:
                _, at = _varint(raw, at)
            elif wire == _LEN:
                size, at = _varint(raw, at)
                field = fields.get(tag >> 3)
                if field is not None and field.message_type is not None:
                    todo.append((at, min(at + size, end), field.message_type))
                elif field is not None and field.is_repeated and field.cpp_type != field.CPPTYPE_STRING:
                    parts += size  # packed numbers, of a byte or more each
                at += size
            elif wire in (_I64, _I32):
                at += 8 if wire == _I64 else 4
            else:
                break
    return parts


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number and where the next thing begins."""
    value = shift = 0
    while at < len(raw) and shift < 64:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, at
