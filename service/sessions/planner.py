"""How one request plans: the model's settings, its session's, and its own, the later over the earlier."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from service.models.hosted import Hosted
from service.protocol.errors import invalid
from service.protocol.requests import Planner
from service.sessions.session import Session
from thick.planning.settings import PlannerSettings


def planner_settings(hosted: Hosted, *changes: Mapping[str, Any]) -> PlannerSettings:
    """The model's planner settings with overrides, later ones over earlier ones.

    Raises:
        ProblemError: ``invalid_request`` naming the setting that is wrong, or that this checkpoint cannot do.
    """
    values: dict[str, Any] = {}
    for each in changes:
        values.update(each)
    try:
        return hosted.runtime.settings(values)
    except ValueError as error:
        path, _, message = str(error).partition(": ")
        raise (
            invalid(path, message) if path.startswith("planner") else invalid("planner", str(error))
        ) from error


def session_settings(
    session: Session, hosted: Hosted, planner: Planner | None
) -> tuple[PlannerSettings, int]:
    """What one request of a session plans with, and the seed apart from it: equal searches can be batched."""
    own = planner.settings() if planner else {}
    settings = planner_settings(hosted, session.planner, own) if own else session.settings
    seed = session.seed if settings.seed is None else settings.seed
    return dataclasses.replace(settings, seed=None) if settings.seed is not None else settings, seed


def deadline_of(session: Session, planner: Planner | None) -> float | None:
    """The bound on a request in ms: its own (null is none), or its session's."""
    own = planner.deadline_ms if planner else None
    if planner is not None and planner.lifts_deadline:
        return None
    return session.deadline_ms if own is None else float(own)


PONDER_MS = 100.0
"""between two acts of a session that asks to ponder and says no more"""


def ponder_of(planner: Planner | None, before: float | None = None) -> float | None:
    """For how long to plan ahead between acts, ms; None for not at all.

    Args:
        before: what the session had before.
    """
    if planner is None or (planner.ponder is None and planner.ponder_ms is None):
        return before
    if planner.ponder is False:
        return None
    if planner.ponder_ms is not None:
        return float(planner.ponder_ms) if planner.ponder or before is not None else None
    return PONDER_MS if before is None else before
