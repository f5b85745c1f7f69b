"""Which sessions take part at the moment."""

from __future__ import annotations

from service.engine.jobs import ActJob

ACTIVE_S = 0.25
"""a session counts as active for that long after an act, s"""


class ActiveSessions:
    """Sessions by their latest act."""

    def __init__(self) -> None:
        self._latest: dict[str, float] = {}

    def acted(self, job: ActJob) -> None:
        """A session's act was submitted."""
        self._latest.pop(job.session, None)
        self._latest[job.session] = job.submitted  # the latest is the last

    def count(self, now: float) -> int:
        """Sessions that acted a moment ago."""
        while self._latest:
            session = next(iter(self._latest))
            if self._latest[session] > now - ACTIVE_S:
                break
            del self._latest[session]
        return len(self._latest)
