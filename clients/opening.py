"""How blocking code opens a session or a dream: by asking. ``clients.asynchronous.opening`` is its twin."""

from __future__ import annotations

from clients import dream_results, results
from clients.calls import Call
from clients.carrier import Carrier
from clients.dream import Dream
from clients.session import Session

__all__ = ["Dream", "Session", "open_dream", "open_session"]


def open_session(client: Carrier, call: Call[results.SessionInfo]) -> Session:
    """The session that a call creates or finds."""
    return Session(client, client._run(call))


def open_dream(client: Carrier, call: Call[dream_results.DreamInfo]) -> Dream:
    """The dream that a call creates or finds."""
    return Dream(client, client._run(call))
