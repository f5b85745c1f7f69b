"""Many sessions with many acting at once: memory stays flat, and no session ever hears of another."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.asynchronous import AsyncPlanningClient, AsyncSession
from clients.retries import Retries
from tests.faults.conftest import Figures
from tests.faults.load import BUDGET, METHODS
from tests.faults.stores import SQLiteKept
from tests.faults.support import Server, observation, until
from tests.faults.truth import Episode, differences_here

MEBIBYTE = 2**20
REPLAYED = 60
"""sessions whose every answer is compared with what it would be alone"""


@pytest.mark.slow
async def test_no_answer_reflects_another_session_and_nothing_is_kept_of_those_that_end(
    tiny: Path, tmp_path: Path, figures: Figures
) -> None:
    with Server(tiny, tmp_path, store=SQLiteKept(tmp_path).url, access_log="false") as server:
        crowd = Crowd(server, sessions=96, at_once=24)
        await crowd.act(until=lambda: crowd.answers >= 500)
        await check(tiny, server, crowd, figures, "canaries")


@pytest.mark.soak
async def test_a_thousand_sessions_with_64_acting_at_once_for_minutes_take_no_more_memory(
    tiny: Path, tmp_path: Path, figures: Figures
) -> None:
    minutes = 5
    with Server(tiny, tmp_path, store=SQLiteKept(tmp_path).url, access_log="false") as server:
        crowd = Crowd(server, sessions=1000, at_once=64)
        await crowd.act(
            until=lambda: crowd.answers >= 2000
        )  # every session has acted, and every path was used
        end = time.monotonic() + 60 * minutes
        await crowd.act(until=lambda: time.monotonic() > end)
        quarter = len(crowd.memory) // 4
        first, last = statistics.median(crowd.memory[:quarter]), statistics.median(crowd.memory[-quarter:])
        assert last - first < 0.02 * first + 4 * MEBIBYTE, (first, last)
        await check(tiny, server, crowd, figures, f"1,000 sessions, 64 at once, {minutes} min")
        figures.add(
            "memory of the server, MiB",
            {"first quarter": round(first / MEBIBYTE, 1), "last quarter": round(last / MEBIBYTE, 1)},
        )


@dataclass
class Crowd:
    """Sessions that act in turn, ``at_once`` of them at a time; now and then one is forked, reset or replaced."""

    server: Server
    sessions: int
    at_once: int
    members: list[tuple[AsyncSession, Episode]] = field(default_factory=list)
    ended: list[Episode] = field(default_factory=list)
    answers: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """of the server, bytes, twice a second"""

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(3)
        self._made = 0

    async def act(self, *, until: Any) -> None:
        """Go on until then."""
        patient = Retries(attempts=20)
        async with AsyncPlanningClient(self.server.url, retries=patient) as client:
            resting: asyncio.Queue[tuple[AsyncSession, Episode]] = asyncio.Queue()
            if not self.members:
                for number in range(self.sessions):
                    self.members.append(await self._new(client, number))
            for session, episode in self.members:
                resting.put_nowait((await client.attach(session.id), episode))
            self.members.clear()
            began = time.monotonic()
            watch = asyncio.create_task(self._watch())
            await asyncio.gather(*(self._work(client, resting, until) for _ in range(self.at_once)))
            watch.cancel()
            self.seconds += time.monotonic() - began
            while not resting.empty():
                self.members.append(resting.get_nowait())

    async def _watch(self) -> None:
        process = self.server.figures()
        while True:
            self.memory.append(process.memory_info().rss)
            await asyncio.sleep(0.5)

    async def _new(self, client: AsyncPlanningClient, seed: int) -> tuple[AsyncSession, Episode]:
        planner = {**BUDGET, "method": METHODS[seed % len(METHODS)]}
        return await client.session("arm", seed=seed, planner=planner), Episode("arm", seed, planner)

    async def _work(self, client: AsyncPlanningClient, resting: Any, until: Any) -> None:
        while not until():
            session, episode = await resting.get()
            session, episode = await self._sometimes(client, session, episode)
            # Nobody else ever observes this: it is the session's canary.
            body = {"observation": observation(episode.seed, len(episode.actions))}
            began = time.monotonic()
            decision = await session.decide(**body, include=())
            self.latencies.append(time.monotonic() - began)
            assert decision.session_id == session.id and decision.step == len(episode.actions)
            assert not decision.replayed
            episode.asked.append({**body, "include": []})
            episode.actions.append(decision.action)
            self.answers += 1
            resting.put_nowait((session, episode))

    async def _sometimes(
        self, client: AsyncPlanningClient, session: AsyncSession, episode: Episode
    ) -> tuple[AsyncSession, Episode]:
        """Another session in place of this one, or this one from its beginning."""
        chance = self._rng.random()
        if chance < 0.02:
            self._made += 1
            await session.close()
            self.ended.append(episode)
            return await self._new(client, self.sessions + self._made)
        if chance < 0.04:
            fork = await session.fork()
            await session.close()
            return fork, episode
        if chance < 0.05 and episode.actions:
            await session.reset()
            self.ended.append(episode)
            return session, Episode(episode.model, episode.seed, episode.planner)
        return session, episode


async def check(repository: Path, server: Server, crowd: Crowd, figures: Figures, what: str) -> None:
    """Nothing is left of sessions that ended, and every answer is the one that its session would get alone."""
    stats = server.stats()
    assert stats["sessions"] == crowd.sessions
    assert stats["models"][0]["sessions"] == crowd.sessions
    assert stats["models"][0]["slots"] == crowd.sessions + 1, (
        "one for each, and the fresh state that they share"
    )
    assert stats["queue_depth"] == 0
    until(lambda: server.figures().num_fds() < crowd.at_once + 60)
    assert "Traceback" not in server.logged
    episodes = [*crowd.ended, *(episode for _, episode in crowd.members)]
    episodes.sort(key=lambda episode: episode.seed % 97)
    compared = episodes[:REPLAYED]
    wrong = await differences_here(repository, compared)
    assert not wrong, wrong[:5]
    latencies = sorted(crowd.latencies)
    figures.add(
        what,
        {
            "acts": crowd.answers,
            "a second": round(crowd.answers / crowd.seconds),
            "p50 ms": round(1e3 * latencies[len(latencies) // 2]),
            "p99 ms": round(1e3 * latencies[len(latencies) * 99 // 100]),
            "answers compared with a session alone": sum(len(each.actions) for each in compared),
            "different": len(wrong),
        },
    )
