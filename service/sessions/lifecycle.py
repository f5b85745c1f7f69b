"""Sessions as resources: made, restored, listed, reset, forked, exported and deleted."""

from __future__ import annotations

import contextlib
from typing import Any

from service.engine.engine import Engine
from service.engine.slots import as_row
from service.models.repository import ModelRepository
from service.operations.offloop import LARGE, off_loop
from service.protocol.errors import ProblemError
from service.protocol.limits import Limits
from service.protocol.requests import CreateSession, Fork, Planner, check_limits, parse
from service.sessions import snapshots
from service.sessions.journal import Journal
from service.sessions.planner import planner_settings, ponder_of
from service.sessions.session import Session
from service.sessions.table import SessionTable
from service.sessions.watching import Watching
from service.stores.record import RevisionConflict

RESET_ATTEMPTS = 5
"""times a reset is tried against another replica that keeps acting"""


class Lifecycle:
    """What can be done with a session, except acting and imagining in it.

    Args:
        ttl_s: of a session that asks for none, s.
    """

    def __init__(
        self,
        *,
        sessions: SessionTable,
        repository: ModelRepository,
        journal: Journal,
        engine: Engine,
        limits: Limits,
        watching: Watching,
        ttl_s: float,
    ) -> None:
        self._watching = watching
        self._sessions = sessions
        self._repository = repository
        self._journal = journal
        self._engine = engine
        self._limits = limits
        self._ttl_s = ttl_s

    async def create(self, tree: Any) -> dict[str, Any]:
        """``POST /v1/sessions``"""
        body = parse(CreateSession, tree)
        check_limits(body, self._limits)
        with self._sessions.room():
            session = self.new(body.model, body.version, body.seed, body.planner, body.ttl_s)
            await self._keep(session)
        return session.view()

    async def restore(self, raw: bytes) -> dict[str, Any]:
        """``POST /v1/sessions`` with an exported belief."""
        large = len(raw) > LARGE
        snapshot = await off_loop(snapshots.parse, raw) if large else snapshots.parse(raw)
        hosted = self._repository.for_new_session(snapshot.model, snapshot.version)
        if hosted.weights != snapshot.weights:
            raise ProblemError(
                "invalid_belief",
                f"the belief is of other weights than {hosted.name!r} version {hosted.version!r} has here",
            )
        settings = planner_settings(hosted, snapshot.planner)
        self._check_bounds(snapshot)
        row = snapshots.row_of(snapshot, hosted.slots.layout)
        with self._sessions.room():
            session = self._sessions.new(
                hosted,
                seed=snapshot.seed,
                planner=snapshot.planner,
                settings=settings,
                deadline_ms=snapshot.deadline_ms,
                ponder_ms=snapshot.ponder_ms,
                ttl_s=min(snapshot.ttl_s, self._limits.ttl_s),
                step=snapshot.step,
                first=snapshot.first,
            )
            packed = as_row(row, hosted.slots.layout.row_bytes)
            (session.slot,) = await self._engine.call(lambda: hosted.slots.put(packed))
            await self._keep(session, state=row)
        return session.view()

    def _check_bounds(self, snapshot: snapshots.Snapshot) -> None:
        """A belief may ask for no more than who creates a session may.

        Raises:
            ProblemError: ``invalid_request``
        """
        ponder = {} if snapshot.ponder_ms is None else {"ponder": True, "ponder_ms": snapshot.ponder_ms}
        planner = {**snapshot.planner, **ponder}
        check_limits(parse(CreateSession, {"model": snapshot.model, "planner": planner}), self._limits)

    async def listed(self) -> dict[str, Any]:
        """``GET /v1/sessions``"""
        if self._journal.store.shared:
            await self._journal.adopt_all()
        for session in self._sessions.all():
            self._attach(session)
        return {"sessions": [session.view() for session in self._sessions.all()]}

    async def get(self, session_id: str) -> dict[str, Any]:
        """``GET /v1/sessions/{id}``"""
        session = await self._journal.find(session_id)
        self._attach(session)
        if self._journal.store.shared:
            async with session.turn():
                await self._journal.current(session)
        return session.view()

    async def delete(self, session_id: str) -> None:
        """``DELETE /v1/sessions/{id}``; waits for an act that is running."""
        session = await self._journal.find(session_id)
        async with session.turn():
            await self._journal.delete(session)

    async def reset(self, session_id: str) -> dict[str, Any]:
        """``POST /v1/sessions/{id}/reset``"""
        session = await self._journal.find(session_id)
        async with session.turn():
            for _ in range(RESET_ATTEMPTS):
                await self._journal.current(session)
                hosted = session.hosted
                assert hosted is not None
                slot = hosted.slots.retain(hosted.initial_slot)
                try:
                    await self._journal.write(
                        session, state=None, slot=slot, step=0, first=True, digest=None, answer=None
                    )
                    self._watching.reset(session_id)
                    return session.view()
                except RevisionConflict:  # whatever another replica did meanwhile, the reset comes after it
                    hosted.slots.release(slot)
                except BaseException:
                    hosted.slots.release(slot)
                    raise
        raise ProblemError(
            "conflict", "another replica uses the session at the same time; nothing has changed"
        )

    async def fork(self, session_id: str, tree: Any) -> dict[str, Any]:
        """``POST /v1/sessions/{id}/fork``"""
        body = parse(Fork, tree)
        parent = await self._journal.find(session_id)
        with self._sessions.room():
            async with parent.turn():
                await self._journal.current(parent)
                hosted = parent.hosted
                assert hosted is not None and parent.slot is not None
                planner = parent.planner
                if body.seed is not None:  # the fork's own seed stands above one in the parent's planner
                    planner = {key: value for key, value in planner.items() if key != "seed"}
                session = self._sessions.new(
                    hosted,
                    seed=parent.seed if body.seed is None else body.seed,
                    planner=planner,
                    settings=planner_settings(hosted, planner),
                    deadline_ms=parent.deadline_ms,
                    ponder_ms=parent.ponder_ms,
                    ttl_s=parent.ttl_s,
                    step=parent.step,
                    first=parent.first,
                )
                session.slot = hosted.slots.retain(parent.slot)
                parent.prolong()
                state = await self._journal.state(parent) if self._journal.store.durable else None
            await self._keep(session, state=state)
        return session.view()

    async def export(self, session_id: str) -> bytes:
        """``GET /v1/sessions/{id}/belief``"""
        session = await self._journal.find(session_id)
        async with session.turn():
            await self._journal.current(session)
            assert session.hosted is not None
            session.prolong()
            return snapshots.export(session, session.hosted.slots.layout, await self._journal.state(session))

    def new(
        self, model: str, version: str | None, seed: int | None, planner: Planner | None, ttl_s: float | None
    ) -> Session:
        hosted = self._repository.for_new_session(model, version)
        overrides = planner.settings() if planner else {}
        settings = planner_settings(hosted, overrides)
        session = self._sessions.new(
            hosted,
            seed=seed,
            planner=overrides,
            settings=settings,
            deadline_ms=float(planner.deadline_ms) if planner and planner.deadline_ms else None,
            ponder_ms=ponder_of(planner),
            ttl_s=float(self._ttl_s if ttl_s is None else ttl_s),
        )
        session.slot = hosted.slots.retain(hosted.initial_slot)
        return session

    async def _keep(self, session: Session, state: bytes | None = None) -> None:
        """Store and list a new session; if that fails, it never was."""
        try:
            await self._journal.write(session, state=state)
        except BaseException:
            self._sessions.drop_state(session)
            raise

    def _attach(self, session: Session) -> None:
        with contextlib.suppress(ProblemError):  # shown without spaces until its model is loaded
            self._sessions.attach(session)
