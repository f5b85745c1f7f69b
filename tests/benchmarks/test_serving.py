"""The load generator of ``benchmarks/serving.py`` against a real server: every transport is answered, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("psutil")

from benchmarks.serving import load, models, report, servers
from benchmarks.serving.load import JSON, MSGPACK, AnySession, Sessions, Target, press, thick_grpc, thick_http
from benchmarks.serving.measure import Row
from tests.models.sizes import tiny
from tests.service.live import Live


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark's models, but tiny."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        for name, served in models.MODELS.items():
            sizes = dict(vars(tiny(actor_critic=True)))
            sizes.pop("levels")
            planner = {**served.planner, "samples": 8, "elites": 2, "iterations": 1, "horizon": 2}
            small = models.Served(name, served.about, sizes, planner)
            patch.setitem(models.MODELS, name, small)
        models.write(folder)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Live]:
    live = Live(repository, store="memory://")
    yield live
    live.stop()


@pytest.fixture
def targets(server: Live) -> list[Target]:
    port, grpc_port = urlsplit(server.http).port, urlsplit(server.grpc).port
    assert port and grpc_port
    sessions = Sessions(port)
    return [
        thick_http("JSON", port, sessions, JSON),
        thick_http("msgpack", port, sessions, MSGPACK, ("plan", "timing")),
        thick_grpc("unary", grpc_port, sessions, stream=False),
        thick_grpc("stream", grpc_port, sessions, stream=True),
    ]


@pytest.mark.parametrize("model", sorted(models.MODELS))
async def test_every_transport_is_answered_and_each_act_is_counted(targets: list[Target], model: str) -> None:
    rows = []
    for target in targets:  # over the same sessions: their steps go on from one transport to the next
        clients = target.clients(model, "policy", 3)
        window = await press(clients, seconds=0.05, warm=0.0, least=6, most_s=20.0)
        assert not window.failures
        assert window.answered >= len(window.latencies) >= 6
        row = Row(target.name, model, "policy", 3)
        row.latencies, row.seconds, row.answered = window.latencies, window.seconds, window.answered
        rows.append(row)
        target.close()
    assert all(f"| {target.name} " in report.load(model, "policy", rows) for target in targets)


async def test_the_same_observations_get_the_same_actions_over_every_transport(targets: list[Target]) -> None:
    given = [await target.trial("image", "flat", 2) for target in targets]
    for actions in given[1:]:
        assert all((a == b).all() for a, b in zip(given[0], actions, strict=True))


async def test_a_connection_that_lay_idle_is_opened_anew_and_no_act_is_lost(
    targets: list[Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    (client,) = targets[1].clients("grid", "policy", 1)
    await client.act()
    old = client.connection
    monkeypatch.setattr(load, "IDLE_S", -1.0)
    await client.act()
    assert client.connection is not old
    assert client.step[0] >= 2
    await asyncio.sleep(0)
    targets[1].close()


def test_the_bare_endpoints_take_the_bodies_of_the_service(repository: Path, tmp_path: Path) -> None:
    server, grpc_port = servers.echo(repository, tmp_path)
    try:
        server.wait_ready()
        anybody = AnySession(server.port)
        bare = [
            thick_http("JSON", server.port, anybody, JSON),
            thick_http("msgpack", server.port, anybody, MSGPACK),
            thick_grpc("unary", grpc_port, anybody, stream=False),
            thick_grpc("stream", grpc_port, anybody, stream=True),
        ]
        given = [asyncio.run(target.trial("image", "policy", 3)) for target in bare]
        assert all(np.shape(action) == (2,) for actions in given for action in actions)
        work = servers.work(server)
        assert len(work) == 12 and min(work) > 0
        assert servers.work(server) == []
    finally:
        server.stop()


def _tables(msgpack_ms: float) -> dict[str, list[dict[str, object]]]:
    alone = {"bare": 3.0, "THICK, msgpack": msgpack_ms}  # both with a model of 1 ms
    return {
        "overhead": [{"target": name, "p50_ms": value, "work_ms": 1.0} for name, value in alone.items()],
        "image policy": [
            {"target": "LitServe, JSON", "clients": 32, "acts_per_s": 100.0},
            {"target": "THICK, msgpack", "clients": 32, "acts_per_s": 150.0},
        ],
    }


@pytest.mark.parametrize(("msgpack_ms", "met"), [(3.9, True), (4.1, False)])
def test_what_a_transport_adds_is_a_ratio_to_a_bare_endpoint_and_a_bar(msgpack_ms: float, met: bool) -> None:
    overhead, throughput = report.goals(_tables(msgpack_ms), {"bare": "THICK, msgpack"})
    assert (overhead.bar, overhead.met) == (True, met)
    assert overhead.value == pytest.approx((msgpack_ms - 1.0) / 2.0)
    assert (throughput.bar, throughput.met, throughput.value) == (False, False, 1.5)
    assert "1.50x" in report.verdict([overhead, throughput])
