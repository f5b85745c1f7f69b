"""Times of one request."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Clock:
    """When a request arrived; the transport makes it."""

    arrived: float = field(default_factory=time.monotonic)
    """s on the monotonic clock"""
    decode_s: float = 0.0
    """time spent on reading the body"""
    large: bool = False
    """whether the observation should be validated off the event loop"""
    timing: dict[str, float] | None = None
    """milliseconds by phase, once an act was planned (not replayed); for traces"""
