"""How blocking code opens a session: by asking. ``clients.asynchronous.opening`` is its twin."""

from __future__ import annotations

from clients import results
from clients.calls import Call
from clients.carrier import Carrier
from clients.session import Session

__all__ = ["Session", "open_session"]


def open_session(client: Carrier, call: Call[results.SessionInfo]) -> Session:
    """The session that a call creates or finds."""
    return Session(client, client._run(call))
