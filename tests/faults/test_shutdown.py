"""Starting and stopping: ready soon, nothing cut off half-way, and at once where that is asked for."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from clients.errors import BusyError, ClientError, ConnectionLostError, NotConnectedError
from tests.faults.conftest import Figures
from tests.faults.load import Client
from tests.faults.stores import SQLiteKept
from tests.faults.support import Server, until
from tests.faults.test_network import LONG, figure
from tests.faults.truth import differences

START_WITHIN_S = 10.0


def test_a_server_with_one_model_is_ready_in_less_than_ten_seconds(shared: Server, figures: Figures) -> None:
    took, own = shared.start_s, shared.own_start_s
    figures.add("start-up", {"s": round(took, 1), "without waiting for a core": round(own, 1)})
    assert own < START_WITHIN_S


class Surprised(Client):
    """Ends at the first thing that is not answered, and keeps what it was told."""

    farewell: ClientError | None = None

    def _live(self) -> None:
        super()._live()
        if isinstance(self.failure, ClientError):
            self.farewell, self.failure = self.failure, None


def test_sigterm_answers_what_runs_and_keeps_every_session(tiny: Path, tmp_path: Path) -> None:
    kept = SQLiteKept(tmp_path)
    with Server(tiny, tmp_path, store=kept.url, access_log="false") as server:
        gate = threading.Event()
        people = [
            Surprised(number, server.client() if number % 2 else server.grpc_client(), gate=gate)
            for number in range(6)
        ]
        for each in people:
            each.start()
        gate.set()
        until(lambda: sum(each.answers for each in people) > 30, 240)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 30
        for each in people:
            each.finish()
            # Told that it drains, or the door found closed. A connection may close just as something is sent.
            assert isinstance(each.farewell, (BusyError, NotConnectedError, ConnectionLostError)), (
                each.farewell
            )
        heads = kept.heads()
        tracks = [track for each in people for track in each.tracks]
        for track in tracks:
            assert heads[track.session.id]["step"] == len(track.episode.actions), (
                "an act was done, not answered"
            )
        assert '"orderly": true' in server.logged and "Traceback" not in server.logged
        server.start()
        with server.client() as client:
            for track in tracks:
                assert client.attach(track.session.id).step == len(track.episode.actions)
    assert not differences(tiny, [track.episode for track in tracks])


def begin_long_act(server: Server, answers: list[Any], **planner: Any) -> threading.Thread:
    """An act that takes long, in the background; its response or error ends up in ``answers``."""

    def ask() -> None:
        with server.http() as http:
            try:
                body = {"model": "arm", "observation": [0.0] * 7, "planner": {**LONG, **planner}}
                answers.append(http.post("/v1/act", json=body, timeout=300))
            except httpx.HTTPError as error:
                answers.append(error)

    thread = threading.Thread(target=ask)
    with server.http() as http:
        before = figure(http, "thick_batch_size_sum")
        thread.start()
        until(lambda: figure(http, "thick_batch_size_sum") > before, 60)
    return thread


def test_sigterm_waits_for_an_act_and_refuses_new_ones(tiny: Path, tmp_path: Path) -> None:
    with Server(tiny, tmp_path, drain_s=120) as server, server.grpc_client() as grpc:
        answers: list[Any] = []
        running = begin_long_act(server, answers, deadline_ms=4000)
        server.signal(signal.SIGTERM)
        until(lambda: "draining" in server.logged)
        with pytest.raises(BusyError, match="draining"):
            grpc.session("arm")
        assert not grpc.ready()
        with pytest.raises(ConnectionRefusedError):  # load balancers go elsewhere
            until(lambda: not socket.create_connection(("127.0.0.1", server.port)).close() and False)
        assert server.ended(120) == 0
        running.join()
        assert answers[0].status_code == 200, answers
        assert answers[0].json()["plan"]["budget"]["iterations_done"] >= 1


def test_an_act_longer_than_the_grace_period_is_reported(tiny: Path, tmp_path: Path) -> None:
    with Server(tiny, tmp_path, drain_s=1) as server:
        answers: list[Any] = []
        running = begin_long_act(server, answers)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.ended(60) == 0
        assert time.monotonic() - began < 30
        running.join()
        (told,) = answers
        assert told.status_code == 503 and told.json()["code"] == "draining", told
        assert int(told.headers["retry-after"]) >= 1
        assert "stopping although requests still run" in server.logged


def test_a_second_signal_stops_at_once_and_what_was_answered_is_kept(tiny: Path, tmp_path: Path) -> None:
    kept = SQLiteKept(tmp_path)
    with Server(tiny, tmp_path, store=kept.url, drain_s=600) as server:
        with server.client() as client:
            session = client.session("arm")
            session.act(np.zeros(7, np.float32), planner={"method": "policy"})
        answers: list[Any] = []
        running = begin_long_act(server, answers)
        server.signal(signal.SIGTERM)
        until(lambda: "draining" in server.logged)
        assert server.process is not None and server.process.poll() is None
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.ended() == 128 + signal.SIGTERM
        assert time.monotonic() - began < 10
        running.join()
        assert kept.heads()[session.id]["step"] == 1
        assert json.loads(server.logged.splitlines()[-1])["event"] == "stopping at once"
