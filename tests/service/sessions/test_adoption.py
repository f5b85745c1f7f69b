"""Sessions that several replicas find in one store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from service.core import PlanningService
from service.stores.memory import MemoryStore
from service.stores.record import Record
from tests.service.support import Caller, observe, over_http, settings_for


class SharedStore(MemoryStore):
    """What several services in this process share."""

    shared = True

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    async def load(self) -> list[Record]:
        return list(self.records.values())

    async def read(self, session_id: str) -> Record | None:
        return self.records.get(session_id)

    async def revision(self, session_id: str) -> int | None:
        record = self.records.get(session_id)
        return None if record is None else record.revision

    async def write(self, record: Record) -> None:
        self.records[record.session_id] = record

    def write_now(self, record: Record) -> bool:
        self.records[record.session_id] = record
        return True

    async def delete(self, session_id: str) -> None:
        self.records.pop(session_id, None)


@asynccontextmanager
async def replicas(repository: Path) -> AsyncIterator[tuple[SharedStore, Caller, Caller]]:
    """Two services over one store, and a caller of each."""
    store = SharedStore()
    one, two = (PlanningService(settings_for(repository), store) for _ in range(2))
    for service in (one, two):
        await service.start()
        await service.loaded()
    try:
        async with over_http(one) as here, over_http(two) as there:
            yield store, Caller(here), Caller(there)
    finally:
        for service in (one, two):
            await service.stop()


async def adoptions(caller: Caller) -> float:
    lines = (await caller.client.get("/metrics")).text.splitlines()
    return float(next(line for line in lines if line.startswith("thick_adoptions_total")).split()[-1])


async def test_a_session_that_another_replica_began_goes_on_and_counts_once_and_one_that_is_over_does_not(
    repository: Path,
) -> None:
    async with replicas(repository) as (store, caller, other):
        sessions = [await caller.session("arm", seed=seed) for seed in range(2)]
        for session in sessions:
            await caller.act(session, observe("arm", 0))
        moved, late = sessions
        assert (await other.ask("GET", f"/v1/sessions/{moved}"))["step"] == 1
        assert await adoptions(other) == 1
        store.records[late] = store.records[late]._replace(expires_at=time.time() - 1)
        problem = await other.ask("GET", f"/v1/sessions/{late}", status=410)
        assert problem["code"] == "session_expired"
        assert await adoptions(other) == 1


async def test_a_list_is_the_same_whichever_replica_is_asked(repository: Path) -> None:
    async with replicas(repository) as (_, caller, other):
        kept, deleted = [await caller.session("arm", seed=seed) for seed in range(2)]
        dreams = [
            (await caller.ask("POST", "/v1/dreams", {"model": "arm"}, status=201))["dream_id"]
            for _ in range(2)
        ]
        for each in (caller, other):
            listed = await each.ask("GET", "/v1/sessions")
            assert {session["session_id"] for session in listed["sessions"]} == {kept, deleted}
            listed = await each.ask("GET", "/v1/dreams")
            assert {dream["dream_id"] for dream in listed["dreams"]} == set(dreams)
        act = {"actions": [[0.0, 0.0]], "step": 0, "include": []}
        made = await caller.ask("POST", f"/v1/dreams/{dreams[0]}/step", act)
        (seen,) = [
            dream
            for dream in (await other.ask("GET", "/v1/dreams"))["dreams"]
            if dream["dream_id"] == dreams[0]
        ]
        assert seen["step"] == 1
        again = await other.ask("POST", f"/v1/dreams/{dreams[0]}/step", act)
        assert again == {**made, "replayed": True}
        await caller.ask("DELETE", f"/v1/sessions/{deleted}", status=204)
        await caller.ask("DELETE", f"/v1/dreams/{dreams[1]}", status=204)
        for each in (caller, other):
            listed = await each.ask("GET", "/v1/sessions")
            assert {session["session_id"] for session in listed["sessions"]} == {kept}
            listed = await each.ask("GET", "/v1/dreams")
            assert {dream["dream_id"] for dream in listed["dreams"]} == set(dreams[:1])
