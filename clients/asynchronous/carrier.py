"""What a session needs of its client: to carry calls. It keeps sessions from importing the clients that make them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from clients.calls import Call
from clients.connection import ServiceConnection
from service.protocol.events import Event

Result = TypeVar("Result")


class AsyncCarrier(Protocol):
    """Carries calls to the service."""

    connection: ServiceConnection

    async def _run(self, call: Call[Result]) -> Result:
        """Sends a call, again where that is safe and may help."""

    async def _run_act(self, session_id: str, call: Call[Result]) -> Result:
        """Sends an act of a session, by the session's stream where there is one."""

    def _stream(self, call: Call[Any]) -> AsyncIterator[Event]:
        """The events of an imagination; errors of the server are raised."""

    async def _picture(self, call: Call[Any], form: str) -> bytes:
        """An imagination as a picture."""

    async def _close_session(self, session_id: str) -> None:
        """Deletes a session; one that is gone already is fine."""
