"""``kill -9`` at random moments under load: no answered step is lost, none is done twice, no session is
half-written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.base import SyncClient
from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from tests.faults.conftest import Figures
from tests.faults.load import Client, Track
from tests.faults.proxy import BadNetwork
from tests.faults.stores import RedisKept, RedisServer, SQLiteKept
from tests.faults.support import PATIENT, Server, until
from tests.faults.truth import differences


@pytest.fixture(params=["sqlite", "redis"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A store that outlives the server, looked at from outside."""
    if request.param == "sqlite":
        yield SQLiteKept(tmp_path)
        return
    with RedisServer(tmp_path) as redis:
        yield RedisKept(redis)


def test_kill_9_under_load_loses_no_answered_step_and_repeats_none(
    small: Path, tmp_path: Path, kept: Any, figures: Figures
) -> None:
    rounds(small, tmp_path, kept, figures, kills=2, clients=6, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_many_kills_lose_no_answered_step_and_repeat_none(
    small: Path, tmp_path: Path, kept: Any, figures: Figures, seed: int
) -> None:
    rounds(small, tmp_path, kept, figures, kills=40, clients=12, seed=seed, forked=False)


def rounds(
    repository: Path,
    folder: Path,
    kept: Any,
    figures: Figures,
    *,
    kills: int,
    clients: int,
    seed: int,
    forked: bool = True,
) -> None:
    """Kill a server again and again while clients use it, each time at another moment of its life.

    Just before, the network begins to lose answers, so that some of what the server did is not known to
    whom it was done for.
    """
    rng = np.random.default_rng(seed)
    gate = threading.Event()
    server = Server(repository, folder, forked=forked, store=kept.url, access_log="false")
    with server, BadNetwork(server.url) as http, BadNetwork(server.grpc_url) as grpc:
        people = [
            Client(number, connected(number, http.url, grpc.url), gate=gate) for number in range(clients)
        ]
        for each in people:
            each.start()
        gate.set()
        for number in range(kills):
            if number % 4 == 3:  # every fourth dies while it takes up the sessions of the last one
                time.sleep(rng.uniform(0.5, 3.0))
            else:
                under_load(people, int(rng.integers(clients, 8 * clients)))
                lost = http.lost + grpc.lost + int(rng.integers(4))
                http.lose_answers(10**6)
                grpc.lose_answers(10**6)
                until(lambda: http.lost + grpc.lost >= lost, 60)  # noqa: B023
                time.sleep(rng.uniform(0, 0.02))
            server.kill()
            http.lose_answers(0)
            grpc.lose_answers(0)
            assert kept.heads().keys() >= {track.session.id for track in owned(people)}
            server.launch()
        under_load(people, 4 * clients)
        gate.clear()
        until(lambda: all(each.idle for each in people), 120, what="a client got no answer")
        server.kill()  # now idle
        heads = kept.heads()
        server.start()
        for each in people:
            if each.failure is not None:
                raise each.failure
            each.check_last_answers()
            for track in each.tracks:
                assert heads[track.session.id]["step"] == len(track.episode.actions)
                each.act(track)
        for each in people:
            each.finish()
        orphans = check_listed(server, people)
        assert "Traceback" not in server.logged
        assert server.stop() == 0
    replayed = sum(each.replayed for each in people)
    assert replayed, "no answer was lost: this has shown nothing"
    episodes = [episode for each in people for episode in each.ended]
    episodes += [track.episode for track in owned(people)]
    wrong = differences(repository, episodes)
    assert not wrong, wrong[:5]
    figures.add(
        f"kill -9 under load, {type(kept).__name__.removesuffix('Kept')}",
        {
            "kills": kills + 1,
            "acts answered": sum(each.answers for each in people),
            "answered again after the first answer was lost": replayed,
            "lost, repeated or wrong": len(wrong),
            "sessions whose creation was not answered": orphans,
        },
    )


def connected(number: int, http: str, grpc: str) -> SyncClient:
    """Each client over another transport than the next."""
    if number % 3 == 0:
        return PlanningClient(http, retries=PATIENT)
    return GrpcPlanningClient(grpc, retries=PATIENT, stream_acts=number % 3 == 1)


def owned(people: list[Client]) -> list[Track]:
    """The sessions that clients know to be theirs."""
    return [track for each in people for track in list(each.tracks)]


def under_load(people: list[Client], answers: int) -> None:
    """Returns after so many more answers."""
    goal = sum(each.answers for each in people) + answers

    def reached() -> bool:
        for each in people:
            if each.failure is not None:
                raise each.failure
        return sum(each.answers for each in people) >= goal

    until(reached, 240, what="the clients are not answered")


def check_listed(server: Server, people: list[Client]) -> int:
    """The server knows every session that was answered for, none that was deleted, and can use each other one
    (whose creation was not answered); the number of these."""
    with server.client() as client:
        listed = {info.session_id for info in client.sessions()}
        known = {track.session.id for track in owned(people)}
        assert known <= listed
        assert not listed & {name for each in people for name in each.deleted}
        orphans = listed - known
        assert len(orphans) <= sum(each.lost for each in people)
        for name in orphans:
            client.attach(name).act(np.zeros(7, np.float32))
    return len(orphans)
