# Written by scripts/sync_clients.py from clients/asynchronous/carrier.py: change that one, and run the script.
"""What a session needs of its client: to carry calls. It keeps sessions from importing the clients that make them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from clients.calls import Call
from clients.connection import ServiceConnection
from service.protocol.events import Event

Result = TypeVar("Result")


class Carrier(Protocol):
    """Carries calls to the service."""

    connection: ServiceConnection

    def _run(self, call: Call[Result]) -> Result:
        """Sends a call, again where that is safe and may help."""

    def _run_act(self, session_id: str, call: Call[Result]) -> Result:
        """Sends an act of a session, by the session's stream where there is one."""

    def _stream(self, call: Call[Any]) -> Iterator[Event]:
        """The events of an imagination; errors of the server are raised."""

    def _picture(self, call: Call[Any], form: str) -> bytes:
        """An imagination as a picture."""

    def _close_session(self, session_id: str) -> None:
        """Deletes a session; one that is gone already is fine."""
