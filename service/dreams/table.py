"""The dreams of this process, and the store behind them: a change is durable before it is visible."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any, TypeVar

import structlog

from service.dreams.dream import Dream, DreamStates, dream_expired
from service.models.hosted import Hosted
from service.models.repository import ModelRepository
from service.operations.metrics import Metrics
from service.operations.offloop import LARGE
from service.protocol.errors import ProblemError
from service.stores.record import Record, RevisionConflict, SessionStore, StoreError, is_dream, now

log = structlog.get_logger("thick.dreams")

WAITING = 16
"""requests of one dream that may wait for each other; beyond, 429"""
REMEMBERED = 10_000
"""expired dreams remembered, so that they are answered with 410 instead of 404"""

Found = TypeVar("Found")


class DreamTable:
    """Finds dreams, and keeps every change of them.

    Args:
        limit: imagined environments of all dreams together.
    """

    def __init__(
        self, repository: ModelRepository, store: SessionStore, metrics: Metrics, *, limit: int
    ) -> None:
        self._repository, self._store, self._metrics, self._limit = repository, store, metrics, limit
        self._dreams: dict[str, Dream] = {}
        self._expired: OrderedDict[str, float] = OrderedDict()
        self._reserved = 0

    def all(self) -> list[Dream]:
        """Live dreams, oldest first."""
        at = now()
        return [dream for dream in self._dreams.values() if dream.expires_at > at]

    def adopt(self, record: Record) -> Dream | None:
        """Take up a dream that the store has; None, and remembered as expired, where its time is over."""
        if record.expires_at <= now():
            self._forget(record.session_id, record.expires_at)
            return None
        dream = self._dreams.get(record.session_id)
        if dream is None:
            dream = Dream.stored(record)
            self._add(dream)
        elif record.revision > dream.revision and not dream.lock.locked():  # another replica used it
            dream.follow(record)
        return dream

    async def catch_up(self) -> None:
        """Know what other replicas began and ended, where there are any.

        Raises:
            ProblemError: ``store_unavailable``.
        """
        if not self._store.shared:
            return
        before = list(self._dreams.values())
        records = [record for record in await _unless_down(self._store.load()) if is_dream(record)]
        for record in records:
            self.adopt(record)
        there = {record.session_id for record in records}
        for dream in before:  # known here before the store was read: whoever lacks it there was deleted
            if dream.dream_id not in there and not dream.ended and not dream.lock.locked():
                self._remove(dream)

    async def find(self, dream_id: str) -> Dream:
        """A live dream.

        Raises:
            ProblemError: ``dream_not_found``, ``dream_expired``, ``store_unavailable``.
        """
        dream = self._dreams.get(dream_id)
        if dream is None and dream_id in self._expired:
            raise dream_expired(dream_id, self._expired[dream_id])
        if dream is None and self._store.shared:
            record = await _unless_down(self._store.read(dream_id))
            if record is not None and is_dream(record):
                dream = self.adopt(record)
                if dream is None:
                    raise dream_expired(dream_id, record.expires_at)
        if dream is None:
            raise ProblemError("dream_not_found", f"dream {dream_id[:64]!r}: there is none")
        if dream.expires_at <= now() and not dream.lock.locked() and not self._store.shared:
            raise dream.gone()
        return dream

    @contextlib.asynccontextmanager
    async def turn(self, dream: Dream) -> AsyncIterator[tuple[Hosted, DreamStates]]:
        """One request of a dream at a time, in the order in which they came; the dream is what the store says.

        Raises:
            ProblemError: ``queue_full``; ``dream_not_found`` or ``dream_expired`` where it ended meanwhile;
                ``model_not_ready``; ``conflict`` where the model has other weights now; ``store_unavailable``.
        """
        if dream.waiting >= WAITING:
            raise ProblemError(
                "queue_full", f"dream {dream.dream_id}: {dream.waiting} requests of it wait already"
            )
        dream.waiting += 1
        try:
            await dream.lock.acquire()
        finally:
            dream.waiting -= 1
        try:
            if dream.ended:
                raise dream.gone()
            yield await self._current(dream)
        finally:
            dream.lock.release()

    async def _current(self, dream: Dream) -> tuple[Hosted, DreamStates]:
        stale = False
        if self._store.shared and dream.revision:
            revision = await _unless_down(self._store.revision(dream.dream_id))
            if revision is None:
                self._remove(dream)
                raise ProblemError("dream_not_found", f"dream {dream.dream_id!r} was deleted")
            stale = revision != dream.revision
        if dream.states is None or stale:
            record = await _unless_down(self._store.read(dream.dream_id))
            if record is None or record.state is None:
                self._remove(dream)
                raise ProblemError(
                    "dream_not_found", f"dream {dream.dream_id!r}: the store has lost its state"
                )
            dream.follow(record)
        if dream.expires_at <= now():
            raise dream.gone()
        if dream.hosted is None or not dream.hosted.loaded:
            self._attach(dream)
        assert dream.hosted is not None and dream.states is not None
        if dream.states.rows.shape[1] != dream.hosted.runtime.dreams.layout.row_bytes:
            raise ProblemError(
                "conflict",
                "the stored dream has another layout than this release's models; create a new one",
            )
        return dream.hosted, dream.states

    def attach_all(self) -> None:
        """Hold the models of all live dreams, where they are loaded."""
        for dream in self.all():
            with contextlib.suppress(ProblemError):
                self._attach(dream)

    def _attach(self, dream: Dream) -> None:
        hosted = self._repository.for_session(dream.model, dream.version)
        if hosted.weights != dream.weights:
            raise ProblemError(
                "conflict",
                f"model {dream.model!r} version {dream.version!r} has other weights than the dream began with",
            )
        if dream.hosted is not hosted:
            if dream.hosted is not None:
                dream.hosted.sessions -= 1
            self._repository.session_began(hosted)
            dream.hosted = hosted

    async def write(self, dream: Dream, states: DreamStates, **changes: Any) -> None:
        """Make a change durable, then visible. In the dream's turn.

        Raises:
            ProblemError: ``store_unavailable``, ``conflict`` where another replica was faster: nothing has changed.
        """
        record = dream.record(states, changes)
        try:
            small = len(record.state or b"") + len(record.answer or b"") < LARGE
            if not (small and self._store.write_now(record)):
                await _unless_down(self._store.write(record))
        except RevisionConflict:
            raise ProblemError(
                "conflict", "another replica uses the dream at the same time; nothing has changed"
            ) from None
        for name, value in changes.items():
            setattr(dream, name, value)
        dream.states, dream.revision, dream.expires_at = states, record.revision, record.expires_at
        if dream.dream_id not in self._dreams:
            self._add(dream)

    @contextlib.contextmanager
    def room(self, count: int) -> Iterator[None]:
        """Keep places while a dream is made.

        Raises:
            ProblemError: ``too_many_dreams``.
        """
        there = self._size
        if there + self._reserved + count > self._limit:
            raise ProblemError(
                "too_many_dreams",
                f"the dreams here have {there} environments, {count} more would be over the limit of {self._limit}; "
                "delete some, or let them expire",
                retry_after=10.0,
            )
        self._reserved += count
        try:
            yield
        finally:
            self._reserved -= count

    async def delete(self, dream: Dream) -> None:
        """End a dream, in the store first. In its turn."""
        await _unless_down(self._store.delete(dream.dream_id))
        self._remove(dream)

    async def sweep(self) -> None:
        """End the dreams that were not used for too long. (The store forgets them with its sessions.)"""
        at = now()
        for dream in [each for each in self._dreams.values() if each.expires_at <= at]:
            if dream.lock.locked() or await self._in_use_elsewhere(dream):
                continue
            log.info("dream expired", dream_id=dream.dream_id, model=dream.model, step=dream.step)
            self._remove(dream)
            self._forget(dream.dream_id, dream.expires_at)

    async def _in_use_elsewhere(self, dream: Dream) -> bool:
        try:
            record = await self._store.read(dream.dream_id) if self._store.shared else None
        except StoreError:
            return True  # nobody knows
        if record is None or record.expires_at <= now():
            return False
        dream.expires_at = record.expires_at
        return True

    @property
    def _size(self) -> int:
        return sum(dream.count for dream in self._dreams.values())

    def _add(self, dream: Dream) -> None:
        self._dreams[dream.dream_id] = dream
        if dream.hosted is not None:
            self._repository.session_began(dream.hosted)
        self._metrics.dreams.set(self._size)

    def _remove(self, dream: Dream) -> None:
        dream.ended = True
        if self._dreams.pop(dream.dream_id, None) is not None and dream.hosted is not None:
            self._repository.session_ended(dream.hosted)
        self._metrics.dreams.set(self._size)

    def _forget(self, dream_id: str, at: float) -> None:
        self._expired[dream_id] = at
        while len(self._expired) > REMEMBERED:
            self._expired.popitem(last=False)


async def _unless_down(call: Awaitable[Found]) -> Found:
    try:
        return await call
    except StoreError as error:
        raise ProblemError("store_unavailable", f"{error}; nothing has changed, try again") from error
