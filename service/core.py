"""The service without a transport: what HTTP, gRPC and WebSocket call.

Methods take decoded bodies (plain dicts, arrays in their wire form or as numpy) and return plain dicts with
numpy arrays in them; whatever cannot be done is a ``ProblemError``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import structlog

from service.dreams.dreaming import Dreaming
from service.dreams.table import DreamTable
from service.engine.engine import Engine
from service.models.hosted import Hosted
from service.models.repository import ModelRepository
from service.operations.metrics import Metrics
from service.operations.offloop import off_loop
from service.protocol.errors import ProblemError
from service.protocol.requests import Imagine, ImagineOnce, check_limits, parse
from service.protocol.values import decode_observation
from service.sessions.act import ActPipeline
from service.sessions.answers import ActAnswer
from service.sessions.clock import Clock
from service.sessions.imagine import Imagination, ImaginePipeline
from service.sessions.journal import Journal
from service.sessions.lifecycle import Lifecycle
from service.sessions.planner import planner_settings, session_settings
from service.sessions.table import SessionTable
from service.sessions.watching import Watching
from service.settings import Settings
from service.stores.open import open_store
from service.stores.record import SessionStore
from thick.runtimes.backends import open_runtime
from thick.runtimes.protocol import Runtime

log = structlog.get_logger("thick.service")

SWEEP_S = 1.0
"""seconds between looks for expired sessions"""


class PlanningService:
    """Everything the service can do.

    Args:
        settings: of the operator.
        store: an open session store.
        opener: how to open a model, in place of ``thick.runtimes.backends.open_runtime``.
    """

    def __init__(
        self, settings: Settings, store: SessionStore, *, opener: Callable[..., Runtime] = open_runtime
    ) -> None:
        self.settings = settings
        self.limits = settings.limits
        self.metrics = Metrics()
        self.engine = Engine(
            metrics=self.metrics,
            max_batch=settings.max_batch,
            queue_limit=settings.queue_limit,
            batch_wait_s=settings.batch_wait_ms / 1e3,
            threads=settings.threads,
            plans_at_once=settings.plans_at_once if settings.device == "cpu" else 1,
        )
        self.repository = ModelRepository(
            settings.models,
            engine=self.engine,
            metrics=self.metrics,
            backend=settings.backend,
            device=settings.device,
            precision=settings.precision,
            load=settings.load_versions,
            opener=opener,
        )
        self.watching = Watching(enabled=settings.watch_sessions, observations=settings.watch_observations)
        self.sessions = SessionTable(self.repository, self.watching, limit=settings.max_sessions)
        dreams = DreamTable(self.repository, store, self.metrics, limit=settings.max_dreams)
        self.journal = Journal(self.sessions, store, self.engine, self.metrics, dream=dreams.adopt)
        self.acting = ActPipeline(
            engine=self.engine,
            journal=self.journal,
            metrics=self.metrics,
            limits=self.limits,
            watching=self.watching,
            degrade=settings.degrade,
        )
        self.imagining = ImaginePipeline(engine=self.engine, limits=self.limits)
        self.lifecycle = Lifecycle(
            sessions=self.sessions,
            repository=self.repository,
            journal=self.journal,
            engine=self.engine,
            limits=self.limits,
            watching=self.watching,
            ttl_s=settings.session_ttl_s,
        )
        self.dreams = dreams
        self.dreaming = Dreaming(
            dreams=dreams,
            repository=self.repository,
            journal=self.journal,
            engine=self.engine,
            limits=self.limits,
            imagining=self.imagining,
            ttl_s=settings.session_ttl_s,
        )
        self.draining = False
        self._work = _Working(self)
        self._chores: list[asyncio.Task[None]] = []

    @classmethod
    async def create(
        cls, settings: Settings, *, opener: Callable[..., Runtime] = open_runtime
    ) -> PlanningService:
        """A service with its store open, not started yet.

        Raises:
            SettingsError: the store cannot be used.
        """
        return cls(settings, await open_store(settings), opener=opener)

    # -- life --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the worker, take up stored sessions, and begin loading models; ``ready`` says when they
        are."""
        self.engine.start()
        restored = await self.journal.adopt_all()
        if restored:
            log.info("sessions restored", sessions=restored)
        needed = {(session.model, session.version) for session in self.sessions.all()}
        needed |= {(dream.model, dream.version) for dream in self.dreams.all()}
        self._chores.append(asyncio.create_task(self.repository.start(needed)))
        self._chores.append(asyncio.create_task(self._sweep_forever()))
        if self.settings.watch_s:
            self._chores.append(asyncio.create_task(self._watch_forever()))

    async def loaded(self) -> None:
        """Returns once the models of the start are ready or failed."""
        await self._chores[0]

    async def drain(self, timeout_s: float) -> bool:
        """Take no more work and wait for what is running; False if that took too long and was abandoned."""
        self.draining = True
        self.watching.close()
        try:
            async with asyncio.timeout(timeout_s):
                await self._work.idle.wait()
                while self.acting.running:
                    await asyncio.sleep(0.005)
        except TimeoutError:
            log.warning("stopping although requests still run", active=self._work.active)
            await self.engine.stop()  # its requests fail with: the server shuts down
            return False
        return True

    async def stop(self) -> None:
        """End the worker and close the store."""
        self.draining = True
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self.engine.stop()
        await self.journal.store.close()

    @property
    def ready(self) -> bool:
        """Whether requests can be answered: models loaded and warm, and not shutting down."""
        return self.repository.ready and not self.draining

    def check_ready(self) -> None:
        """What ``GET /health/ready`` asks.

        Raises:
            ProblemError: ``draining``; or ``model_not_ready`` with ``state``: ``loading`` and what is, or ``failed``
                with every model and its reason: waiting does not help then.
        """
        if self.draining:
            raise ProblemError("draining", "the server is shutting down", retry_after=5.0)
        if self.ready:
            return
        loading, failed = self.repository.loading(), self.repository.failed()
        if failed and not loading and not self.repository.starting:
            reasons = [
                f"model {each.name!r} version {each.version!r} failed: {each.reason}" for each in failed
            ]
            raise ProblemError(
                "model_not_ready",
                "no model can be served; " + "; ".join(reasons),
                retry_after=30.0,
                state="failed",
            )
        what = ", ".join(f"{each.name} {each.version}" for each in loading)
        detail = "models are still loading" + (f": {what}" if what else "")
        raise ProblemError("model_not_ready", detail, state="loading")

    def working(self) -> contextlib.AbstractContextManager[None]:
        """Around every request that shutting down waits for.

        Raises:
            ProblemError: ``draining``; on the way in.
        """
        return self._work

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                self.watching.sweep()
                await self.dreams.sweep()
                await self.journal.sweep()
            except Exception:
                log.exception("looking for expired sessions failed")

    async def _watch_forever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.watch_s)
            try:
                await self.repository.refresh()
            except Exception:
                log.exception("looking for new models failed")

    # -- models ------------------------------------------------------------------------------------------

    def list_models(self) -> dict[str, Any]:
        """``GET /v1/models``"""
        return {"models": [hosted.summary() for hosted in self.repository.all()]}

    def get_model(self, name: str, version: str | None = None) -> dict[str, Any]:
        """``GET /v1/models/{name}``"""
        return self.repository.detail(self.repository.get(name, version))

    async def load_model(self, name: str, version: str | None = None) -> dict[str, Any]:
        """``POST /v1/models/{name}/load``; the transport has checked the admin key."""
        hosted = await self.repository.load(name, version)
        return self.repository.detail(hosted)

    def unload_model(self, name: str, version: str | None = None) -> dict[str, Any]:
        """``POST /v1/models/{name}/unload``; the transport has checked the admin key."""
        self.sessions.attach_all()  # who lives here keeps its model, also where nobody used it since a restart
        self.dreams.attach_all()
        changed = self.repository.unload(name, version)
        return self.repository.detail(changed[-1])

    # -- act and imagine ---------------------------------------------------------------------------------

    async def act(self, session_id: str, tree: Any, clock: Clock) -> ActAnswer:
        """``POST /v1/sessions/{id}/act``"""
        body = self.acting.decode(tree)
        session = await self.journal.find(session_id)
        return await self.acting.act(session, body, clock)

    async def act_once(self, tree: Any, clock: Clock) -> ActAnswer:
        """``POST /v1/act``; a session that is created for it exists only if it was answered."""
        body = self.acting.decode_once(tree)
        if body.session_id is not None:
            session = await self.journal.find(body.session_id)
            if body.model is not None and body.model != session.model:
                raise ProblemError(
                    "conflict",
                    f"session {body.session_id!r} is of model {session.model!r}, not {body.model!r}",
                )
            return await self.acting.act(session, body, clock)
        model = body.model or self.repository.only("session_id")
        with self.sessions.room():
            planner = body.planner
            session = self.lifecycle.new(model, body.version, body.seed, planner, body.ttl_s)
            try:
                return await self.acting.act(session, body, clock)
            finally:
                if not session.listed:
                    self.sessions.drop_state(session)

    async def imagine(self, session_id: str, tree: Any) -> Imagination:
        """``POST /v1/sessions/{id}/imagine``; never changes the session."""
        body = parse(Imagine, tree)
        check_limits(body, self.limits)
        session = await self.journal.find(session_id)
        async with session.turn():
            await self.journal.current(session)
            hosted = session.hosted
            assert hosted is not None and session.slot is not None
            if session.first:
                raise ProblemError(
                    "conflict",
                    "the session has seen nothing of its episode: act first, or imagine from an observation "
                    "(POST /v1/imagine)",
                )
            settings, seed = session_settings(session, hosted, body.planner)
            slot = hosted.slots.retain(session.slot)
            session.prolong()
            step = session.step
        return await self.imagining.start(
            hosted, slot, body, settings=settings, seed=seed if body.seed is None else body.seed, step=step
        )

    async def imagine_once(self, tree: Any, large: bool = False) -> Imagination:
        """``POST /v1/imagine``: from an observation, without a session.

        Args:
            large: the observation is validated off the event loop.
        """
        body = parse(ImagineOnce, tree)
        check_limits(body, self.limits)
        hosted = self.repository.for_new_session(body.model, body.version)
        assert hosted.observation_space is not None
        sent, space = body.observation, hosted.observation_space
        if large:
            observation = await off_loop(decode_observation, sent, space, limits=self.limits)
        else:
            observation = decode_observation(sent, space, limits=self.limits)
        settings = planner_settings(hosted, body.planner.settings() if body.planner else {})
        seed = body.seed if body.seed is not None else settings.seed or 0
        slot = hosted.slots.retain(hosted.initial_slot)
        return await self.imagining.start(
            hosted, slot, body, settings=settings, seed=seed, step=0, observation=observation
        )

    # -- watching ----------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """``GET /v1/stats``"""
        return {
            **self.metrics.summary(),
            "sessions": len(self.sessions),
            "queue_depth": self.engine.depth,
            "draining": self.draining,
            "models": [
                {
                    **hosted.summary(),
                    "sessions": hosted.sessions,
                    "slots": hosted.slots.used if hosted.loaded else 0,
                }
                for hosted in self.repository.all()
            ],
        }


class _Working(contextlib.AbstractContextManager[None]):
    """See :meth:`PlanningService.working`: one for all requests, entered by each of them."""

    def __init__(self, service: PlanningService) -> None:
        self._service = service
        self.active = 0
        """requests within"""
        self.idle = asyncio.Event()
        self.idle.set()

    def __enter__(self) -> None:
        if self._service.draining:
            raise ProblemError("draining", "the server is shutting down; ask another one", retry_after=5.0)
        self.active += 1
        self.idle.clear()

    def __exit__(self, *raised: object) -> None:
        self.active -= 1
        if not self.active:
            self.idle.set()


__all__ = ["ActAnswer", "Clock", "Hosted", "Imagination", "PlanningService"]
