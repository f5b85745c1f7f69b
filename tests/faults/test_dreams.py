"""Dreams under ``kill -9`` and on two replicas: no answered step is lost, none happens twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.dream import Dream
from clients.errors import NotFoundError
from clients.http_client import PlanningClient
from tests.faults.stores import RedisServer
from tests.faults.support import PATIENT, Server

STEPS = 60
COUNT = 5
SEED = 3


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store that outlives the server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'sessions.db'}"
        return
    with RedisServer(tmp_path) as redis:
        yield redis.url


def played(dream: Dream, first: int = 0, steps: int = STEPS) -> list[Any]:
    """What some steps of a dream answer."""
    made = []
    for index in range(first, first + steps):
        actions = np.random.default_rng(index).uniform(-1, 1, (COUNT, 2)).astype(np.float32)
        step = dream.step(list(actions), autoreset=True)
        assert step.step == index
        made.append(
            (step.reward.tobytes(), step.terminated.tobytes(), np.asarray(step.observation).tobytes())
        )
    return made


def test_kill_9_loses_no_answered_step_of_a_dream_and_repeats_none(
    tiny: Path, tmp_path: Path, store: str
) -> None:
    with Server(tiny, tmp_path, store=store) as server:
        with server.client() as client, client.dream("arm", count=COUNT, seed=SEED) as dream:
            undisturbed = played(dream)
        made: list[Any] = []
        failures: list[BaseException] = []

        def play() -> None:
            try:
                with PlanningClient(server.url, retries=PATIENT) as client:
                    dream = client.attach_dream(known)
                    while len(made) < STEPS:
                        made.extend(played(dream, len(made), 1))
            except BaseException as error:
                failures.append(error)

        with server.client() as client:
            known = client.dream("arm", count=COUNT, seed=SEED).id
        thread = threading.Thread(target=play)
        thread.start()
        for part in (1, 2, 3):
            while len(made) < part * STEPS // 5 and not failures:
                thread.join(0.002)
            server.kill()
            server.start()
        thread.join(120)
        assert not failures, failures
        assert made == undisturbed
        assert "Traceback" not in server.logged


def test_two_replicas_step_one_dream_and_a_late_writer_is_refused(tiny: Path, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder in folders:
            folder.mkdir()
        with (
            Server(tiny, folders[0], store=redis.url) as one,
            Server(tiny, folders[1], store=redis.url) as two,
        ):
            with one.client() as first, two.client() as second:
                twin = first.dream("arm", count=COUNT, seed=SEED)
                expected = played(twin, 0, 8)
                here = first.dream("arm", count=COUNT, seed=SEED)
                there = second.attach_dream(here.id)
                made = []
                for index in range(8):
                    dream = (here, there)[index % 2]
                    dream.refresh()
                    made += played(dream, index, 1)
                assert made == expected
                here.refresh()
                there.close()
                with pytest.raises(NotFoundError):
                    played(here, 8, 1)
                assert all(each.dream_id != here.id for each in first.dreams())
