"""Watching a session: its events as they happen, resumed, lost and told of; an act never waits for a watcher."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.core import PlanningService
from service.protocol.events import Event, EventReader
from service.sessions.watching import BUFFER, GAP, Watching
from tests.service.support import Caller, observe, over_http, running

QUICK = {"method": "flat", "iterations": 1, "samples": 8, "elites": 2}


class Watcher:
    """Reads a session's events off the application, as they come (httpx's own transport waits for the end)."""

    def __init__(self, service: PlanningService, session_id: str, last: str | None = None) -> None:
        from service.faces.http.app import create_app

        headers = [(b"accept", b"text/event-stream")]
        if last is not None:
            headers.append((b"last-event-id", last.encode()))
        self.status: int | None = None
        self.events: asyncio.Queue[tuple[str | None, Event]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._reader, self._id, self._asked = EventReader(), None, False
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/v1/sessions/{session_id}/events",
            "headers": headers,
            "query_string": b"",
            "root_path": "",
            "http_version": "1.1",
            "scheme": "http",
            "client": None,
            "server": None,
            "asgi": {"version": "3.0"},
        }
        self.task = asyncio.create_task(create_app(service)(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        for line in message.get("body", b"").decode().split("\n"):
            if line.startswith("id: "):
                self._id = line[4:]
            if (event := self._reader.feed(line)) is not None:
                self.events.put_nowait((self._id, event))

    async def next(self) -> tuple[str | None, Event]:
        async with asyncio.timeout(20):
            return await self.events.get()

    async def leave(self) -> None:
        self._gone.set()
        async with asyncio.timeout(20):
            with contextlib.suppress(asyncio.CancelledError):
                await self.task


@pytest.fixture
async def watched(repository: Path) -> AsyncIterator[tuple[PlanningService, Caller]]:
    async with running(repository, watch_sessions=True) as service, over_http(service) as client:
        yield service, Caller(client)


async def session_of(caller: Caller, model: str = "grid") -> str:
    made = await caller.ask("POST", "/v1/sessions", {"model": model, "seed": 1, "planner": QUICK}, status=201)
    return str(made["session_id"])


async def act(caller: Caller, session_id: str, seed: int = 0, **more: Any) -> Any:
    body = {"observation": observe("grid", seed), "include": [], **more}
    return await caller.ask("POST", f"/v1/sessions/{session_id}/act", body)


async def test_watching_is_off_unless_it_was_turned_on(client: Any) -> None:
    caller = Caller(client)
    session_id = await session_of(caller)
    problem = await caller.ask("GET", f"/v1/sessions/{session_id}/events", status=403)
    assert problem["code"] == "watching_disabled"
    assert "--watch-sessions" in problem["detail"]


async def test_a_watcher_sees_acts_resets_and_the_end(watched: tuple[PlanningService, Caller]) -> None:
    service, caller = watched
    session_id = await session_of(caller)
    watcher = Watcher(service, session_id)
    while not service.watching.watched(session_id):
        await asyncio.sleep(0.005)
    answer = await act(caller, session_id, reward=0.5)
    number, event = await watcher.next()
    assert number is not None and number.isdigit()
    assert event.name == "act"
    assert set(event.data) == {"step", "action", "reward", "is_first", "plan", "gates", "timing", "image"}
    assert (event.data["step"], event.data["action"], event.data["reward"]) == (0, answer["action"], 0.5)
    assert event.data["is_first"] is True
    assert event.data["plan"]["method"] == "flat"
    assert event.data["gates"]["open"] >= 0
    assert event.data["timing"]["low_plan_ms"] >= 0
    kind, _, content = event.data["image"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content).startswith(b"\x89PNG")
    assert "plan" not in answer  # the client did not ask for it, and gets what it asked for
    replayed = await act(caller, session_id, reward=0.5, step=0)
    assert replayed["replayed"]
    await caller.ask("POST", f"/v1/sessions/{session_id}/reset")
    assert (await watcher.next())[1].name == "reset"  # and nothing of the act that was only answered again
    await caller.ask("DELETE", f"/v1/sessions/{session_id}", status=204)
    assert (await watcher.next())[1].name == "end"
    await asyncio.wait_for(watcher.task, 20)


async def test_what_many_watch_is_drawn_once(
    watched: tuple[PlanningService, Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, caller = watched
    drawn: list[Any] = []

    def draw(observation: Any, space: Any) -> str:
        drawn.append(observation)
        return "data:image/png;base64,"

    monkeypatch.setattr("service.faces.http.routes.watching.picture_uri", draw)
    session_id = await session_of(caller)
    watchers = [Watcher(service, session_id) for _ in range(5)]
    while not service.watching.watched(session_id):
        await asyncio.sleep(0.005)
    for step in range(3):
        await act(caller, session_id, step)
    watchers.append(Watcher(service, session_id))  # comes later, and gets what is kept
    for watcher in watchers:
        assert [(await watcher.next())[1].data["step"] for _ in range(3)] == [0, 1, 2]
        await watcher.leave()
    assert len(drawn) == 3


async def test_who_comes_back_is_told_what_happened_meanwhile(
    watched: tuple[PlanningService, Caller],
) -> None:
    service, caller = watched
    session_id = await session_of(caller)
    first = Watcher(service, session_id)
    while not service.watching.watched(session_id):
        await asyncio.sleep(0.005)
    await act(caller, session_id)
    last, _ = await first.next()
    await first.leave()
    for step in (1, 2):
        await act(caller, session_id, step)
    second = Watcher(service, session_id, last)
    seen = [await second.next() for _ in range(2)]
    assert [event.data["step"] for _, event in seen] == [1, 2]
    numbers = [int(number) for number, _ in [(last, None), *seen] if number]
    assert numbers == sorted(set(numbers))
    await second.leave()
    problem = await caller.send("GET", f"/v1/sessions/{session_id}/events", last_event_id="soon")
    assert problem.status_code == 422


@pytest.mark.parametrize("empty", ["", " ", "\t "])
async def test_an_empty_last_event_id_is_as_good_as_none(
    watched: tuple[PlanningService, Caller], empty: str
) -> None:
    service, caller = watched
    session_id = await session_of(caller)
    watcher = Watcher(service, session_id, empty)
    while not service.watching.watched(session_id):
        await asyncio.sleep(0.005)
    assert watcher.status == 200
    await act(caller, session_id)
    assert (await watcher.next())[1].data["step"] == 0
    await watcher.leave()


async def test_a_watcher_that_is_slow_is_told_what_it_missed_and_no_act_waits_for_it() -> None:
    watching = Watching(enabled=True, observations=True)
    following = watching.follow("s")
    waiting = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    watching.acted("s", np.zeros(3), {"step": 0})
    first = await waiting
    for step in range(1, BUFFER + 10):  # nobody reads
        watching.acted("s", np.zeros(3), {"step": step})
    gap = await anext(following)
    assert (gap.name, gap.data["missed"]) == (GAP, 9)
    later = await anext(following)
    assert later.data["step"] == 10
    assert later.number == gap.number + 1 > first.number
    await following.aclose()  # type: ignore[attr-defined]
    other = watching.follow("s", after=5)  # of a server that ran before
    gap = await anext(other)
    assert (gap.name, gap.data["missed"]) == (GAP, None)
    await other.aclose()  # type: ignore[attr-defined]


async def test_what_is_seen_can_be_left_out(repository: Path) -> None:
    async with (
        running(repository, watch_sessions=True, watch_observations=False) as service,
        over_http(service) as client,
    ):
        caller = Caller(client)
        session_id = await session_of(caller)
        watcher = Watcher(service, session_id)
        while not service.watching.watched(session_id):
            await asyncio.sleep(0.005)
        await act(caller, session_id, planner={"method": "hierarchical", "simulations": 4})
        seen = (await watcher.next())[1].data
        assert seen["image"] is None
        assert seen["plan"]["high"]["actions"] and seen["plan"]["high"]["subgoal"] is None
        service.watching.close()  # as a server that stops does
        await asyncio.wait_for(watcher.task, 20)


async def test_events_of_sessions_that_nobody_watches_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Watching(enabled=True, observations=True)
    following = watching.follow("s")
    waiting = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    watching.sweep()
    assert watching.watched("s")
    watching.reset("s")
    await waiting
    await following.aclose()  # type: ignore[attr-defined]
    watching.sweep()
    assert watching.watched("s")  # it may come back
    monkeypatch.setattr("service.sessions.watching.LINGER_S", -1.0)
    watching.sweep()
    assert not watching.watched("s")


async def test_every_watcher_is_told_of_everything_however_slow_it_is() -> None:
    """One that is still busy with an event when the next comes must not sleep over it because another was quicker."""
    watching = Watching(enabled=True, observations=True)
    slow, quick = watching.follow("s"), watching.follow("s")
    first = asyncio.ensure_future(anext(slow)), asyncio.ensure_future(anext(quick))
    await asyncio.sleep(0)
    watching.acted("s", None, {"step": 0})
    await asyncio.gather(*first)  # the slow one is now busy with it
    following = asyncio.ensure_future(anext(quick))
    await asyncio.sleep(0)
    watching.ended("s")
    assert (await following).name == "end"
    with pytest.raises(StopAsyncIteration):
        await anext(quick)
    async with asyncio.timeout(5):
        assert (await anext(slow)).name == "end"


async def test_a_quick_watcher_that_waits_again_hides_nothing_from_a_slow_one() -> None:
    watching = Watching(enabled=True, observations=True)
    slow, quick = watching.follow("s"), watching.follow("s")
    first = asyncio.ensure_future(anext(slow)), asyncio.ensure_future(anext(quick))
    await asyncio.sleep(0)
    watching.acted("s", None, {"step": 0})
    await asyncio.gather(*first)
    following = asyncio.ensure_future(anext(quick))
    await asyncio.sleep(0)
    watching.acted("s", None, {"step": 1})
    await following
    waiting = asyncio.ensure_future(anext(quick))  # waits for a third event
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert (await anext(slow)).data["step"] == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    for each in (slow, quick):
        await each.aclose()  # type: ignore[attr-defined]


async def test_an_id_from_the_future_hides_nothing() -> None:
    """Of another replica, whose clock is ahead; or of nobody."""
    watching = Watching(enabled=True, observations=True)
    keeping = watching.follow("s")
    waiting = asyncio.ensure_future(anext(keeping))
    await asyncio.sleep(0)
    watching.acted("s", None, {"step": 0})
    await waiting
    ahead = watching.follow("s", after=10**18)
    async with asyncio.timeout(5):
        gap = await anext(ahead)
        assert (gap.name, gap.data["missed"]) == (GAP, None)
        assert (await anext(ahead)).data["step"] == 0
    for each in (keeping, ahead):
        await each.aclose()  # type: ignore[attr-defined]


async def test_who_begins_to_watch_as_a_session_ends_is_told_so(
    watched: tuple[PlanningService, Caller],
) -> None:
    service, caller = watched
    session_id = await session_of(caller)
    find = service.journal.find

    async def found_just_before_its_end(name: str) -> Any:
        service.journal.find = find  # type: ignore[method-assign]
        session = await find(name)
        await caller.ask("DELETE", f"/v1/sessions/{session_id}", status=204)
        return session

    service.journal.find = found_just_before_its_end  # type: ignore[method-assign]
    watcher = Watcher(service, session_id)
    assert (await watcher.next())[1].name == "end"
    await watcher.leave()
    assert not service.watching.watched(session_id)
