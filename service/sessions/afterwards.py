"""What follows an act that is stored: watchers are notified, and the next one is planned ahead where that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.engine.engine import Engine
from service.engine.jobs import ActResult
from service.engine.pondering import PonderTask
from service.protocol.requests import Act
from service.sessions.planner import ponder_of
from service.sessions.session import Session
from service.sessions.watching import Watching
from thick.planning.settings import PlannerSettings, session_key

PONDERING = 1 << 41
"""added to the step for the key of planning ahead, so that it never draws what an act draws"""


class Afterwards:
    """Called with every act that was stored."""

    def __init__(self, engine: Engine, watching: Watching) -> None:
        self._engine, self._watching = engine, watching

    def __call__(
        self,
        session: Session,
        observation: Any,
        body: Act,
        result: ActResult,
        timing: Mapping[str, float],
        step: int,
        *,
        settings: PlannerSettings,
        seed: int,
    ) -> None:
        if self._watching.watched(session.session_id):
            about = {
                "step": step,
                "action": result.action,
                "reward": body.reward,
                "is_first": body.is_first or step == 0,
                "plan": result.plan,
                "timing": timing,
            }
            self._watching.acted(session.session_id, observation, about)
        ponder_ms = ponder_of(body.planner, session.ponder_ms)
        if ponder_ms is not None and session.hosted is not None and session.slot is not None:
            key = session_key(seed, step + PONDERING)
            task = PonderTask(session.hosted, session.slot, settings, key, ponder_ms / 1e3)
            session.pondering = task
            self._engine.ponder(task)
