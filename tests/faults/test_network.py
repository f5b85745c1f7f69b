"""Bad networks and bad clients: too slow, gone without a word, answers lost or late; nobody else notices."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from clients.retries import Retries
from service.protocol import media
from tests.faults.load import BUDGET
from tests.faults.proxy import BadNetwork
from tests.faults.support import Cores, Server, observation, until
from tests.faults.truth import Episode, differences

LIMIT_S = 1.0
"""what this server leaves to slow clients"""
LONG = {"method": "flat", "samples": 1000, "iterations": 1000, "elites": 10, "horizon": 15}
"""a search of many seconds, made of short iterations"""
ACT = {"observation": [0.0] * 7, "planner": LONG}


@pytest.fixture(scope="module")
def strict(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little patience."""
    limits = dict.fromkeys(("head_timeout_s", "body_timeout_s", "unread_timeout_s"), LIMIT_S)
    with Server(tiny, tmp_path_factory.mktemp("strict"), **limits) as server:
        yield server
        assert "Traceback" not in server.logged


@contextmanager
def raw(server: Server, sent: bytes = b"", *, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection of bytes."""
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", server.port))
    with connection:
        connection.sendall(sent)
        yield connection


def post(path: str, body: bytes, *, length: int | None = None) -> bytes:
    """A request as bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: {media.JSON}\r\n"
        f"content-length: {len(body) if length is None else length}\r\n\r\n"
    ).encode() + body


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and problem, when the server closes the connection or has said all."""
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        part = connection.recv(65536)
        if not part:
            break
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert media.PROBLEM_JSON.encode() in head, received
    return int(head.split()[1]), json.loads(body)


def closed(connection: socket.socket) -> bool:
    """Whether the server ends the connection before this side's patience ends."""
    try:
        while connection.recv(1 << 16):
            continue
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


# -- too slow ------------------------------------------------------------------------------------------------

HEAD = b"GET /health/live HTTP/1.1\r\nhost: test\r\nx-filler: " + b"x" * 500


@pytest.mark.parametrize(
    ("before", "dribbled", "status", "code"),
    [
        (b"", HEAD, 408, "malformed_request"),
        (b"", b"\r\n" * 300, 408, "malformed_request"),
        (post("/v1/act", b"", length=500), b"[" * 500, 408, "request_timeout"),
    ],
    ids=["head", "empty lines", "body"],
)
def test_a_client_that_sends_a_byte_at_a_time_is_given_up_and_holds_nobody_up(
    strict: Server, before: bytes, dribbled: bytes, status: int, code: str
) -> None:
    with raw(strict, before) as slow, strict.client() as client, client.session("arm") as session:
        began = time.monotonic()
        for byte in dribbled:
            try:
                slow.sendall(bytes([byte]))
            except ConnectionError:
                break
            session.act(np.zeros(7, np.float32), planner={"method": "policy"})
            if time.monotonic() - began > 2 * LIMIT_S:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("everything was taken")
        told, problem = answer(slow)
    assert (told, problem["code"], problem["status"]) == (status, code, status)
    assert session.step > 3


def test_what_is_no_http_is_reported(strict: Server) -> None:
    with raw(strict, b"\x16\x03\x01 this is not HTTP\r\n\r\n") as connection:
        status, problem = answer(connection)
        assert status == 400 and problem["code"] == "malformed_request" and closed(connection)
    with raw(strict, b"GET / HTTP/1.1\r\nx: " + b"x" * 70_000) as connection:
        status, problem = answer(connection)
        assert status == 431 and problem["status"] == 431 and closed(connection)


# -- gone ----------------------------------------------------------------------------------------------------


def test_connections_that_say_nothing_any_more_are_given_back(strict: Server) -> None:
    process = strict.figures()
    with strict.http() as http:  # what stays open in any case
        http.get("/health/live")
        before = process.num_fds()
        beginnings = (b"", HEAD, post("/v1/act", b'{"observation": [', length=400))
        silent = [raw(strict, beginnings[number % 3]) for number in range(150)]
        for each in silent:
            each.__enter__()
        until(lambda: process.num_fds() >= before + 150)
        assert http.get("/v1/models").status_code == 200
        until(lambda: process.num_fds() <= before + 2, 60, what="connections are kept")
        for each in silent:
            each.__exit__(None, None, None)
    timers = keepalive_timers(strict.port)
    assert timers <= {"01", "02", "04"}, "an idle connection is asked whether its other end still lives"


def keepalive_timers(port: int) -> set[str]:
    """The kernel's timers on the server's ends of connections; 02 is keepalive, 00 none at all."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [line for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"]
    return {line[5].partition(":")[0] for line in established}


def test_a_client_that_never_reads_its_answer_is_given_up(strict: Server) -> None:
    with strict.client() as client, client.session("arm", planner=BUDGET) as session:
        session.act(np.zeros(7, np.float32))
        asked = {"level": "low", "horizon": 1000, "rollouts": 20, "policy": "prior"}
        request = post(f"/v1/sessions/{session.id}/imagine", json.dumps(asked).encode())
        before = strict.figures().num_fds()
        with raw(strict, request, receive_buffer=4096) as deaf:
            until(lambda: strict.figures().num_fds() > before)
            until(lambda: strict.figures().num_fds() <= before, 120, what="its connection is kept")
            assert closed(deaf)
        session.act(np.zeros(7, np.float32))


def test_the_acts_of_clients_that_go_away_are_given_up(strict: Server) -> None:
    with strict.http() as http, strict.client() as client, client.session("arm", planner=BUDGET) as session:
        session.act(np.zeros(7, np.float32))
        sessions, slots = strict.stats()["sessions"], strict.stats()["models"][0]["slots"]
        act = json.dumps({**ACT, "model": "arm"}).encode()
        own = json.dumps({**ACT, "step": 1}).encode()
        observed = figure(http, "thick_batch_size_sum")
        with contextlib.ExitStack() as connections:
            connections.enter_context(raw(strict, post(f"/v1/sessions/{session.id}/act", own)))
            for _ in range(5):
                connections.enter_context(raw(strict, post("/v1/act", act)))
            until(lambda: figure(http, "thick_batch_size_sum") >= observed + 6, 60)
        until(lambda: figure(http, 'thick_requests_total{route="/v1/act",status="499"}') >= 5)
        until(lambda: idle(strict), 60, what="somebody still plans")
        assert figure(http, "thick_queue_depth") == 0
        assert session.refresh().step == 1, "what was given up has changed nothing"
        session.act(np.zeros(7, np.float32))
        assert (strict.stats()["sessions"], strict.stats()["models"][0]["slots"]) == (sessions, slots)


def figure(http: httpx.Client, name: str) -> float:
    """A figure of ``/metrics``."""
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def idle(server: Server) -> bool:
    """Whether no thread of the server has much to do."""
    cores = Cores(server.pid)
    time.sleep(0.25)
    return cores.busiest < 0.5


# -- answers that are lost or late ---------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["http", "grpc", "grpc-stream"])
def test_a_step_whose_answer_is_lost_or_late_is_done_once(strict: Server, tiny: Path, transport: str) -> None:
    over_http = transport == "http"
    patient = Retries(attempts=50, total_s=100, first_pause_s=0.01, longest_pause_s=0.05)
    options: dict[str, Any] = {"timeout_s": 1.0, "retries": patient}
    with BadNetwork(strict.url if over_http else strict.grpc_url) as network:
        client: Any
        if over_http:
            client = PlanningClient(network.url, **options)
        else:
            client = GrpcPlanningClient(network.url, stream_acts=transport == "grpc-stream", **options)
        with client, client.session("arm", seed=5, planner=BUDGET) as session:
            episode = Episode("arm", 5, BUDGET)
            for step in range(6):
                before = network.lost
                if step % 3 == 1:
                    network.lose_answers(2)
                network.delay_s = 1.5 if step % 3 == 2 else 0.0
                body = {"observation": observation(5, step)}
                if network.delay_s:
                    threading.Timer(0.5, network.recover).start()
                decision = session.decide(**body, include=())
                assert decision.step == step
                if step % 3 == 1 and over_http:
                    assert decision.replayed and network.lost == before + 2
                episode.asked.append({**body, "include": []})
                episode.actions.append(decision.action)
            assert session.refresh().step == 6
    assert not differences(tiny, [episode])
