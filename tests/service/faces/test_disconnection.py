"""A client that closes its HTTP connection while it waits: its act is given up, unless it is done already."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.core import PlanningService
from service.faces.http.app import create_app
from service.faces.http.routes import common
from service.protocol import media
from service.protocol.bodies import encode_body
from service.ui import routes as ui
from tests.service.support import observe, running

LONG = {"method": "flat", "samples": 2000, "iterations": 100, "horizon": 50}
"""a search of many seconds"""


class Exchange:
    """One act over ASGI, by a client that leaves when told to."""

    def __init__(self, service: PlanningService, session_id: str, planner: dict[str, Any]) -> None:
        self.leaves = asyncio.Event()
        self.sent: list[Any] = []
        self._body = [encode_body({"observation": observe("arm"), "planner": planner}, media.MSGPACK)]
        path = f"/v1/sessions/{session_id}/act"
        headers = [(b"content-type", media.MSGPACK.encode())]
        self._scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": b"", "headers": headers, "http_version": "1.1", "scheme": "http",
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "asgi": {"version": "3.0"},
        }  # fmt: skip
        self.task = asyncio.create_task(create_app(service)(self._scope, self._receive, self._send))

    async def _receive(self) -> Any:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_search_for_a_client_that_went_away_is_given_up(small: Path) -> None:
    async with running(small) as service:
        session_id = (await service.lifecycle.create({"model": "arm", "seed": 1}))["session_id"]
        exchange = Exchange(service, session_id, LONG)
        await _until(lambda: service.acting.running)
        exchange.leaves.set()
        await asyncio.wait_for(exchange.task, 20)
        await _until(lambda: not service.acting.running)
        assert exchange.status == 499
        assert service.sessions.all()[0].step == 0
        # The worker is free again: the search was not run to its end.
        again = Exchange(service, session_id, {"method": "flat", "samples": 8, "iterations": 1})
        await asyncio.wait_for(again.task, 20)
        assert again.status == 200
        assert service.sessions.all()[0].step == 1


async def test_a_client_that_leaves_with_its_answer_on_the_way_harms_nobody(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "LOOK_AFTER_S", 0.0)
    async with running(small) as service:
        session_id = (await service.lifecycle.create({"model": "arm", "seed": 1}))["session_id"]
        quick = {"method": "flat", "samples": 8, "iterations": 1}
        for _ in range(5):
            exchange = Exchange(service, session_id, quick)
            exchange.leaves.set()
            await asyncio.wait_for(exchange.task, 20)
            assert exchange.status in (200, 499)
            await _until(lambda: not service.acting.running)
        last = Exchange(service, session_id, quick)
        await asyncio.wait_for(last.task, 20)
        assert last.status == 200


async def test_a_file_that_is_missing_here_is_not_a_client_that_went_away(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "PAGE", small / "nowhere")
    async with running(small) as service:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            answer = await client.get("/ui/main.js")
    assert answer.status_code == 500 and answer.json()["code"] == "internal"
