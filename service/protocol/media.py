"""Media types of the service, and which of them a client asked for."""

from __future__ import annotations

from collections.abc import Sequence

JSON = "application/json"
MSGPACK = "application/msgpack"
PROBLEM_JSON = "application/problem+json"
OCTET_STREAM = "application/octet-stream"
EVENT_STREAM = "text/event-stream"
GIF = "image/gif"
PNG = "image/png"
WEBP = "image/webp"

BODY_TYPES = (JSON, MSGPACK)
"""media types that a body of the contract may have"""

_ALIASES = {"application/x-msgpack": MSGPACK, "application/vnd.msgpack": MSGPACK, "text/json": JSON}


def essence(header: str | None) -> str:
    """The media type of a ``Content-Type`` header, without parameters, lower case; ``""`` for none."""
    if not header:
        return ""
    if header in BODY_TYPES:
        return header
    kind = header.split(";", 1)[0].strip().lower()
    return _ALIASES.get(kind, kind)


def negotiate(accept: str | None, offered: Sequence[str], *, default: str) -> str | None:
    """The offered media type that an ``Accept`` header prefers (RFC 9110 §12.5.1).

    Args:
        accept: the header's value; missing or empty means anything.
        offered: what can be answered, best first; ties in quality go to the earlier one.
        default: what ``*/*`` and a missing header get.

    Returns:
        One of ``offered``, or None if the client accepts none of them.
    """
    if not accept or not accept.strip():
        return default
    best: tuple[float, int, int] | None = None
    choice: str | None = None
    order = {kind: index for index, kind in enumerate([default, *[k for k in offered if k != default]])}
    for kind in offered:
        quality, precision = _quality(accept, kind)
        if quality <= 0:
            continue
        rank = (quality, precision, -order.get(kind, len(order)))
        if best is None or rank > best:
            best, choice = rank, kind
    return choice


def _quality(accept: str, kind: str) -> tuple[float, int]:
    """Quality and precision (2 exact, 1 type, 0 any) that ``accept`` gives to ``kind``."""
    quality, precision = 0.0, -1
    for item in accept.split(","):
        name, *parameters = [part.strip() for part in item.split(";")]
        name = essence(name)
        if name == kind:
            match = 2
        elif name == kind.split("/")[0] + "/*":
            match = 1
        elif name in ("*/*", "*"):
            match = 0
        else:
            continue
        if match < precision:
            continue
        value = 1.0
        for parameter in parameters:
            key, _, text = parameter.partition("=")
            if key.strip().lower() == "q":
                try:
                    value = min(1.0, max(0.0, float(text)))
                except ValueError:
                    value = 0.0
        quality, precision = value, match
    return quality, precision
