"""A step is acted once: asked again it is answered again, and nothing else changes the session."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from service.core import Clock, PlanningService
from service.protocol import media
from service.protocol.bodies import decode_body
from service.protocol.errors import ProblemError
from service.stores.memory import MemoryStore
from service.stores.record import Record, StoreError
from tests.service.support import Caller, observe, over_http, same

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_step_that_is_asked_again_is_answered_again_and_changes_nothing(
    client: httpx.AsyncClient,
) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    first = await caller.act(session, observe("arm", 0), step=0)
    again = await caller.act(session, observe("arm", 0), step=0)
    assert again.pop("replayed") is True and first.pop("replayed") is False
    assert again == first
    assert (await caller.act(session, observe("arm", 1), step=1))["step"] == 1


async def test_the_answer_is_the_same_in_the_other_media_type(client: httpx.AsyncClient) -> None:
    session = await Caller(client).session("arm")
    first = await Caller(client).act(session, observe("arm", 0), step=0)
    again = await Caller(client, media.MSGPACK).act(session, observe("arm", 0), step=0)
    assert again.pop("replayed") is True and first.pop("replayed") is False
    assert same(again, first)


async def test_a_retry_may_bring_another_deadline(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    await caller.act(session, observe("arm", 0), step=0, planner={"deadline_ms": 5000})
    again = await caller.act(session, observe("arm", 0), step=0, planner={"deadline_ms": 900})
    assert again["replayed"] is True


async def test_an_act_without_a_step_can_be_asked_again_with_it(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    first = await caller.act(session, observe("arm", 0))
    again = await caller.act(session, observe("arm", 0), step=0)
    assert again["replayed"] is True and again["action"] == first["action"]


@pytest.mark.parametrize("step", [0, 1, 3, 7])
async def test_any_other_step_is_a_conflict_that_names_the_right_one(
    client: httpx.AsyncClient, step: int
) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    for n in range(2):
        await caller.act(session, observe("arm", n), step=n)
    problem = await caller.act(session, observe("arm", 5), step=step, status=409)
    assert problem["code"] == "step_conflict" and problem["expected_step"] == 2
    assert (await caller.act(session, observe("arm", 2), step=2))["replayed"] is False


@pytest.mark.parametrize(
    "change",
    [
        {"executed_action": [0.5, 0.5]},
        {"reward": 1.0},
        {"is_first": True},
        {"planner": {"samples": 8}},
        {"include": []},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_the_same_step_with_another_request_is_a_conflict(
    client: httpx.AsyncClient, change: dict[str, object]
) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    await caller.act(session, observe("arm", 0), step=0)
    problem = await caller.act(session, observe("arm", 0), step=0, status=409, **change)
    assert problem["expected_step"] == 1


async def test_the_same_step_after_a_reset_is_a_new_act(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    await caller.act(session, observe("arm", 0), step=0)
    await caller.ask("POST", f"/v1/sessions/{session}/reset")
    assert (await caller.act(session, observe("arm", 0), step=0))["replayed"] is False


async def test_acts_of_one_session_at_once_are_taken_one_after_the_other(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    answers = await asyncio.gather(*(caller.act(session, observe("arm", n)) for n in range(6)))
    assert sorted(answer["step"] for answer in answers) == list(range(6))


async def test_the_same_step_sent_twice_at_once_is_planned_once(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    answers = await asyncio.gather(*(caller.act(session, observe("arm", 0), step=0) for _ in range(4)))
    assert sorted(answer["replayed"] for answer in answers) == [False, True, True, True]
    assert len({str(answer["action"]) for answer in answers}) == 1


class FailingStore(MemoryStore):
    """Cannot be written while ``down``."""

    down = False

    async def write(self, record: Record) -> None:
        if self.down:
            raise StoreError("disk full")

    def write_now(self, record: Record) -> bool:
        return False


async def test_an_act_that_cannot_be_stored_changes_nothing_and_can_be_tried_again(
    fresh: PlanningService,
) -> None:
    fresh.journal.store = store = FailingStore()
    view = await fresh.lifecycle.create({"model": "arm", "seed": 1})
    twin = await fresh.lifecycle.create({"model": "arm", "seed": 1})
    session_id = view["session_id"]
    used = fresh.repository.get("arm").slots.used
    store.down = True
    for _ in range(3):
        with pytest.raises(ProblemError, match="disk full") as caught:
            await fresh.act(session_id, {"observation": observe("arm"), "step": 0}, Clock())
        assert caught.value.code == "store_unavailable" and caught.value.status == 503
    assert fresh.repository.get("arm").slots.used == used
    store.down = False
    answer = await fresh.act(session_id, {"observation": observe("arm"), "step": 0}, Clock())
    expected = await fresh.act(twin["session_id"], {"observation": observe("arm"), "step": 0}, Clock())
    assert answer["replayed"] is False and same(answer["action"], expected["action"])


class SlowStore(MemoryStore):
    """Every write waits until it is let go."""

    def __init__(self) -> None:
        self.writing = asyncio.Event()
        self.go = asyncio.Event()

    async def write(self, record: Record) -> None:
        self.writing.set()
        await self.go.wait()

    def write_now(self, record: Record) -> bool:
        return False


async def test_a_client_that_goes_away_while_its_act_is_stored_finds_the_answer_later(
    fresh: PlanningService,
) -> None:
    view = await fresh.lifecycle.create({"model": "arm", "seed": 1})
    fresh.journal.store = store = SlowStore()
    request = {"observation": observe("arm"), "step": 0}
    act = asyncio.create_task(fresh.act(view["session_id"], request, Clock()))
    await store.writing.wait()
    act.cancel()
    retry = asyncio.create_task(fresh.act(view["session_id"], request, Clock()))
    await asyncio.sleep(0)
    store.go.set()
    answer = await retry
    assert answer["replayed"] is True
    assert act.cancelled()


async def test_a_client_that_goes_away_before_that_has_changed_nothing(fresh: PlanningService) -> None:
    view, twin = [await fresh.lifecycle.create({"model": "arm", "seed": 1}) for _ in range(2)]
    slots = fresh.repository.get("arm").slots
    used = slots.used
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    blocked = fresh.engine.call(lambda: asyncio.run_coroutine_threadsafe(release.wait(), loop).result(5))
    act = asyncio.create_task(
        fresh.act(view["session_id"], {"observation": observe("arm"), "step": 0}, Clock())
    )
    while not fresh.engine.depth:
        await asyncio.sleep(0.001)
    act.cancel()
    release.set()
    await blocked
    await fresh.engine.call(lambda: None)
    await asyncio.sleep(0.01)
    assert fresh.engine.depth == 0 and slots.used == used and not fresh.acting.running
    request = {"observation": observe("arm", 1), "step": 0}
    answers = [await fresh.act(each["session_id"], request, Clock()) for each in (view, twin)]
    assert same(answers[0]["action"], answers[1]["action"])


async def test_a_msgpack_client_gets_the_bytes_that_were_stored(fresh: PlanningService) -> None:
    async with over_http(fresh) as client:
        caller = Caller(client, media.MSGPACK)
        session_id = await caller.session("arm")
        body = {"observation": observe("arm"), "step": 0, "include": ["plan", "timing"]}
        sent = await caller.send("POST", f"/v1/sessions/{session_id}/act", body)
        stored = fresh.sessions.find(session_id)
        assert stored is not None and sent.content == stored.answer
        again = await caller.send("POST", f"/v1/sessions/{session_id}/act", body)
        first, second = (decode_body(response.content, media.MSGPACK) for response in (sent, again))
        assert second == {**first, "replayed": True}
