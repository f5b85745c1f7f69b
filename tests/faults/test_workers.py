"""Several workers behind one port: any of them goes on with any session, and one that is killed loses nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from tests.faults.stores import RedisServer
from tests.faults.support import PATIENT, Server, until
from tests.players import playing
from tests.service.support import observe

STEPS = 30
SEEDS = range(6)


def episode(
    client: Any, seed: int, steps: int = STEPS, begin: Callable[[], Any] = lambda: None
) -> list[bytes]:
    """What a session does, as bytes; ``begin`` is called when the session is there."""
    with client.session("arm", seed=seed) as session:
        begin()
        return [np.asarray(session.act(observe("arm", 100 * seed + step))).tobytes() for step in range(steps)]


@pytest.mark.slow
def test_a_killed_worker_loses_no_step_and_is_started_again(tiny: Path, tmp_path: Path) -> None:
    with Server(tiny, tmp_path) as alone, alone.client() as client:
        expected = [episode(client, seed) for seed in SEEDS]
    with (
        RedisServer(tmp_path) as redis,
        Server(tiny, tmp_path, forked=False, store=redis.url, workers=2) as server,
    ):
        workers = psutil.Process(server.pid).children()
        assert len(workers) == 2

        opened = threading.Barrier(
            len(SEEDS) + 1
        )  # a session whose making was not answered is not made again

        def play(seed: int) -> list[bytes]:
            kind: Any = GrpcPlanningClient if seed % 2 else PlanningClient
            with kind(server.grpc_url if seed % 2 else server.url, retries=PATIENT) as client:
                return episode(client, seed, begin=lambda: opened.wait(60))

        with playing(SEEDS, play, 120) as found:
            opened.wait(60)
            for _ in range(2):
                time.sleep(0.15)
                killed = psutil.Process(server.pid).children()[0]
                killed.send_signal(signal.SIGKILL)
                until(lambda killed=killed: _replaced(server, killed), 60)  # type: ignore[misc]
        assert [found[seed] for seed in SEEDS] == expected
        assert "Traceback" not in server.logged
        assert server.stop() == 0


def _replaced(server: Server, killed: psutil.Process) -> bool:
    """Whether the parent has taken note of a killed worker, and started another."""
    workers = psutil.Process(server.pid).children()
    return len(workers) == 2 and killed.pid not in {worker.pid for worker in workers}


@pytest.mark.slow
def test_every_worker_answers_and_says_which_it_is(tiny: Path, tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path) as redis,
        Server(tiny, tmp_path, forked=False, store=redis.url, workers=2) as server,
    ):
        names, step, session_id = set(), 0, None

        def both_answered() -> bool:
            nonlocal step, session_id
            body: dict[str, Any] = {
                "observation": observe("arm", step).tolist(),
                "include": [],
                "step": step,
            }
            body |= {"model": "arm"} if session_id is None else {"session_id": session_id}
            with server.http() as http:  # a connection of its own
                answer = http.post("/v1/act", json=body)
            assert answer.status_code == 200, answer.text
            session_id = answer.json()["session_id"]
            assert answer.json()["step"] == step
            names.add(answer.headers["thick-replica"])
            step += 1
            return names == {"worker-0", "worker-1"}

        until(both_answered, 60)


@pytest.mark.slow
def test_a_worker_takes_no_connection_before_its_models_are_loaded(tiny: Path, tmp_path: Path) -> None:
    """Else half of the connections would be answered that the model is loading, whenever a worker is started again."""
    with (
        RedisServer(tmp_path) as redis,
        Server(tiny, tmp_path, forked=False, store=redis.url, workers=2) as server,
    ):
        killed = psutil.Process(server.pid).children()[0]
        killed.send_signal(signal.SIGKILL)
        names: list[str] = []

        def taken_up_again() -> bool:
            with server.http() as http:
                try:
                    answer = http.get("/health/ready")
                except httpx.TransportError:  # it was given to the one that died
                    return False
            assert answer.status_code == 200, answer.text
            names.append(answer.headers["thick-replica"])
            return _replaced(server, killed) and len(set(names[-20:])) == 2

        until(taken_up_again, 60)


def test_workers_need_a_store_that_they_share(capsys: pytest.CaptureFixture[str]) -> None:
    from thick.cli import main

    assert main(["serve", "--workers", "2", "--store", "memory://"]) == 2
    assert "--store redis://" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wait", [0.3, *(pytest.param(wait, marks=pytest.mark.slow) for wait in (0.0, 0.6, 0.9))]
)
def test_a_service_that_is_stopped_while_its_workers_start_ends_in_order(
    tiny: Path, tmp_path: Path, wait: float
) -> None:
    with RedisServer(tmp_path) as redis:
        server = Server(tiny, tmp_path, forked=False, store=redis.url, workers=2)
        server.launch()
        until(lambda: len(psutil.Process(server.pid).children()) == 2, 60)
        time.sleep(wait)
        assert server.stop() == 0, server.logged[-2000:]


@pytest.mark.slow
def test_workers_do_not_outlive_the_process_that_started_them(tiny: Path, tmp_path: Path) -> None:
    """They would keep the ports, and nobody would end them."""
    with (
        RedisServer(tmp_path) as redis,
        Server(tiny, tmp_path, forked=False, store=redis.url, workers=2) as server,
    ):
        parent = psutil.Process(server.pid)
        workers = parent.children()
        parent.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=20)
        for worker in alive:
            worker.kill()
        assert not alive
