"""More asked for than can be done: deadlines hold, queues are bounded, and whoever is refused is told when to
come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from clients.session import Session
from tests.faults.conftest import Figures
from tests.faults.support import PATIENT, Cores, Server, observation
from tests.faults.test_network import LONG

DEADLINE_MS = 100
MEDIAN_MS = 160
"""of the whole request, on two busy cores"""
SHORT_MS = 1
"""less than what is left of a slice of somebody else's search, mostly"""
QUICK = {"method": "policy"}
BUSY = {**LONG, "iterations": 40}
"""a search of some tenths of a second"""


@pytest.mark.parametrize("transport", ["http", "grpc"])
@pytest.mark.parametrize("method", ["flat", "hierarchical"])
def test_a_deadline_is_kept_at_a_budget_many_times_larger(
    shared: Server, figures: Figures, transport: str, method: str
) -> None:
    planner = {**LONG, "method": method, "simulations": 10_000}
    client: Any = shared.client() if transport == "http" else shared.grpc_client()
    with client, client.session("arm", seed=1, planner=planner) as session:
        session.decide(observation(0), deadline_ms=DEADLINE_MS)
        wall, own = [], []
        for step in range(1, 12):
            took, unhindered, decision = timed(shared, session, step)
            wall.append(took)
            own.append(unhindered)
            budget = decision.plan.budget
            assert budget.deadline_ms == DEADLINE_MS
            assert budget.iterations_done * 5 < budget.iterations_asked == LONG["iterations"]
    median, unhindered = statistics.median(wall), statistics.median(own)
    figures.add(
        f"deadline {DEADLINE_MS} ms, {method}, {transport}",
        {"median ms": round(median), "without waiting for a core": round(unhindered)},
    )
    assert unhindered < MEDIAN_MS


def timed(server: Server, session: Session, step: int) -> tuple[float, float, Any]:
    """How long one act took in ms, how long without what other programs took from it, and its answer."""
    cores = Cores(server.pid, os.getpid())
    began = time.monotonic()
    decision = session.decide(observation(step), deadline_ms=DEADLINE_MS)
    took = time.monotonic() - began
    return 1e3 * took, 1e3 * max(0.0, took - cores.waited), decision


@pytest.fixture(scope="module")
def crowded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a short queue."""
    with Server(tiny, tmp_path_factory.mktemp("crowded"), queue_limit=4) as server:
        yield server
        assert "Traceback" not in server.logged


@contextlib.asynccontextmanager
async def occupied(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server whose worker spends its time on slices of somebody else's search."""
    async with connected(server) as somebody, connected(server) as client:
        body = {"model": "arm", "observation": [0.0] * 7, "planner": LONG}
        before = await batches(client)
        long = asyncio.create_task(somebody.post("/v1/act", json=body))
        while await batches(client) == before:
            await asyncio.sleep(0.01)
        yield client
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)


def connected(server: Server) -> httpx.AsyncClient:
    """A patient client."""
    return httpx.AsyncClient(base_url=server.url, timeout=120, trust_env=False)


async def batches(client: httpx.AsyncClient) -> float:
    """Batches that the worker has begun."""
    lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("thick_batch_size_count"))


async def sessions(client: httpx.AsyncClient, count: int, planner: dict[str, Any]) -> list[str]:
    """New sessions that plan so."""
    body = {"model": "arm", "planner": planner}
    return [(await client.post("/v1/sessions", json=body)).json()["session_id"] for _ in range(count)]


def act(client: httpx.AsyncClient, session: str, **fields: Any) -> Any:
    """One act, on its way."""
    body = {"observation": [0.0] * 7, "step": 0, **fields}
    return client.post(f"/v1/sessions/{session}/act", json=body)


async def test_an_act_whose_deadline_passed_in_the_queue_is_reported_and_was_not_planned(
    crowded: Server,
) -> None:
    async with occupied(crowded) as client:
        (session,) = await sessions(client, 1, QUICK)
        for _ in range(100):  # one that came just between two slices is answered
            answer = await act(client, session, planner={"deadline_ms": SHORT_MS})
            if answer.status_code == 504:
                break
            await client.post(f"/v1/sessions/{session}/reset")
        problem = answer.json()
        assert answer.status_code == 504 and problem["code"] == "deadline_exceeded", problem
        assert (await client.get(f"/v1/sessions/{session}")).json()["step"] == 0
        answer = await act(client, session)
        assert answer.status_code == 200 and answer.json()["replayed"] is False


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(crowded: Server) -> None:
    async with connected(crowded) as client:
        names = await sessions(client, 16, BUSY)
        began = time.monotonic()
        refused_after: list[float] = []

        async def ask(name: str) -> httpx.Response:
            answer: httpx.Response = await act(client, name)
            if answer.status_code != 200:
                refused_after.append(time.monotonic() - began)
            return answer

        answers = await asyncio.gather(*(ask(name) for name in names))
        took = time.monotonic() - began
        refused = [answer for answer in answers if answer.status_code != 200]
        # The first began at once, perhaps with some others; then four wait, and there is room for no more.
        assert 1 <= len(refused) <= 11, [answer.status_code for answer in answers]
        assert statistics.median(refused_after) < took / 2
        for answer in refused:
            problem = answer.json()
            assert answer.status_code == 429 and problem["code"] == "queue_full", problem
            assert int(answer.headers["retry-after"]) >= 1 and problem["retry_after"] > 0
        assert (await client.get("/health/ready")).status_code == 200
        with crowded.client(retries=PATIENT) as patient:
            again = [
                asyncio.to_thread(patient.attach(name).act, observation(1), planner=QUICK)
                for name, answer in zip(names, answers, strict=True)
                if answer.status_code != 200
            ]
            await asyncio.gather(*again)
        steps = [(await client.get(f"/v1/sessions/{name}")).json()["step"] for name in names]
        assert steps == [1] * len(names)
