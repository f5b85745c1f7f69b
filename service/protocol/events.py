"""Server-sent events, as ``imagine`` streams them.

======== ==============================================================================================
event    data (JSON)
======== ==============================================================================================
step     one imagined step: ``{"rollout": 0, "index": 2, ...the fields of a step...}``
end      ``{"level", "rollouts": [{"probability", "return"}]}``, the last event
error    a problem (RFC 9457), the last event
======== ==============================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from service.protocol import media
from service.protocol.bodies import encode_body

STEP, END, ERROR = "step", "end", "error"


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    data: Any


def encode_event(name: str, tree: Any) -> bytes:
    """The bytes of one event; ``tree`` may hold arrays."""
    return b"event: " + name.encode() + b"\ndata: " + encode_body(tree, media.JSON) + b"\n\n"


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """The events in a stream of text lines (without their line ends), as the HTML standard parses them.

    An event that the stream breaks off in is dropped.
    """
    name, data = "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield Event(name, json.loads("\n".join(data)))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
