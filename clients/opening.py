"""How blocking code opens a session: by asking. ``clients.asynchronous.opening`` is its twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients import results
from clients.calls import Call
from clients.session import Session

if TYPE_CHECKING:
    from clients.base import SyncClient

__all__ = ["Session", "open_session"]


def open_session(client: SyncClient, call: Call[results.SessionInfo]) -> Session:
    """The session that a call creates or finds."""
    return Session(client, client._run(call))
