"""What must be true of the sessions of a server, whatever happened to it meanwhile.

An action depends on the model, the session's seed, its step and everything the session observed since its
last reset, and on nothing else, to the bit. So the answers of a whole episode are right exactly if an
undisturbed service gives the same ones: an act that was lost, done twice, or done with another session's
belief would show in every action after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from service.core import Clock, PlanningService
from service.protocol import media
from service.protocol.bodies import decode_arrays, decode_body
from service.stores.record import SessionStore
from tests.service.support import running

AT_ONCE = 32
"""episodes that are replayed together"""


@dataclass
class Episode:
    """What one session was asked since its last reset, and what it answered."""

    model: str
    seed: int
    planner: Mapping[str, Any] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    """bodies of acts, without their steps"""
    actions: list[Any] = field(default_factory=list)
    """the answers, one for each"""

    def copy(self) -> Episode:
        """The same past with another future: of a fork, or of a belief that is restored."""
        return Episode(self.model, self.seed, self.planner, list(self.asked), list(self.actions))


def differences(repository: Path, episodes: Iterable[Episode]) -> list[str]:
    """The answers that an undisturbed service would not have given."""
    return asyncio.run(differences_here(repository, episodes))


async def differences_here(repository: Path, episodes: Iterable[Episode]) -> list[str]:
    """:func:`differences`, in the running event loop."""
    found: list[str] = []
    waiting = [each for each in episodes if each.actions]

    async def work(service: PlanningService) -> None:
        while waiting:
            found.extend(await _replay(service, waiting.pop()))

    async with running(repository, max_sessions=2 * AT_ONCE) as service:
        await asyncio.gather(*(work(service) for _ in range(AT_ONCE)))
    return found


async def _replay(service: PlanningService, episode: Episode) -> list[str]:
    made = await service.lifecycle.create(
        {"model": episode.model, "seed": episode.seed, "planner": dict(episode.planner)}
    )
    wrong = []
    for step, (body, answered) in enumerate(zip(episode.asked, episode.actions, strict=True)):
        answer = await service.act(made["session_id"], {**body, "step": step}, Clock())
        if not np.array_equal(answer["action"], answered):
            wrong.append(f"seed {episode.seed}, step {step}: answered {answered}, truly {answer['action']}")
    await service.lifecycle.delete(made["session_id"])
    return wrong


async def read_store(store: SessionStore) -> dict[str, dict[str, Any]]:
    """The head of every session in a store, each record whole: its parts belong to the same step.

    Raises:
        AssertionError: one of them is half-written.
    """
    await store.open()
    try:
        heads: dict[str, dict[str, Any]] = {}
        sizes = set()
        for listed in await store.load():
            record = await store.read(listed.session_id)
            assert record is not None and record.revision >= 1, listed
            head = record.head
            assert head["first"] or record.state is not None, head
            if record.state is not None:
                sizes.add(len(record.state))
            if record.answer is not None:
                answer = decode_arrays(decode_body(record.answer, media.MSGPACK))
                assert answer["session_id"] == record.session_id and answer["step"] == head["step"] - 1
                assert head["digest"] is not None
                assert np.isfinite(answer["action"]).all()
            heads[record.session_id] = head
        assert len(sizes) <= 1, sizes
        return heads
    finally:
        await store.close()
