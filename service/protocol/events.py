"""Server-sent events, as ``imagine`` streams them.

======== ==============================================================================================
event    data (JSON)
======== ==============================================================================================
step     one imagined step: ``{"rollout": 0, "index": 2, ...the fields of a step...}``
end      ``{"level", "rollouts": [{"probability", "return"}]}``, the last event
error    a problem (RFC 9457), the last event
======== ==============================================================================================

and as a watched session has them:

======== ==============================================================================================
act      ``{"step", "action", "reward", "is_first", "plan", "gates", "timing", "image"}``
reset    ``{}``
gap      ``{"missed"}``: so many events were lost (null: nobody knows how many)
end      ``{}``: the session was deleted or expired
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


def encode_event(name: str, tree: Any, *, number: int | None = None) -> bytes:
    """The bytes of one event; ``tree`` may hold arrays. With a number it can be resumed after."""
    numbered = b"" if number is None else b"id: %d\n" % number
    return numbered + b"event: " + name.encode() + b"\ndata: " + encode_body(tree, media.JSON) + b"\n\n"


class EventReader:
    """Puts events together from text lines (without their line ends), as the HTML standard parses them."""

    def __init__(self) -> None:
        self._name, self._data = "message", list[str]()

    def feed(self, line: str) -> Event | None:
        """The event that this line completes, if it does."""
        if not line:
            name, data = self._name, self._data
            self._name, self._data = "message", []
            return Event(name, json.loads("\n".join(data))) if data else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """The events in a stream of text lines; one that the stream breaks off in is dropped."""
    reader = EventReader()
    for line in lines:
        event = reader.feed(line)
        if event is not None:
            yield event
