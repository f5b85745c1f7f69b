"""Replicas under Ray Serve: a session sticks to one, any other goes on with it, and what is killed loses nothing."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from clients.http_client import PlanningClient
from service.settings import SettingsError
from tests.faults.support import PATIENT, Server
from tests.players import playing
from tests.service.support import observe

pytest.importorskip("ray.serve", reason="no Ray: pip install -e '.[cluster]'")

from tests.cluster.conftest import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

STEPS, SEEDS = 24, range(8)


def episode(client: Any, seed: int) -> list[bytes]:
    """What a session does, as bytes."""
    with client.session("arm", seed=seed) as session:
        return [np.asarray(session.act(observe("arm", 100 * seed + step))).tobytes() for step in range(STEPS)]


def test_a_session_sticks_to_its_replica_and_sessions_are_spread(cluster: Cluster) -> None:
    by_session: dict[str, set[str]] = {}
    with (
        PlanningClient(cluster.url) as client,
        httpx.Client(base_url=cluster.url, trust_env=False, timeout=30) as http,
    ):
        sessions = [client.session("arm", seed=seed) for seed in range(12)]
        for step in range(3):
            for session in sessions:
                answer = http.post(
                    f"/v1/sessions/{session.id}/act",
                    json={"observation": observe("arm", step).tolist(), "include": []},
                    headers={"x-session-id": session.id},
                )
                assert answer.status_code == 200, answer.text
                by_session.setdefault(session.id, set()).add(answer.headers["thick-replica"])
        for session in sessions:
            session.close()
    assert all(len(names) == 1 for names in by_session.values())
    assert len(set.union(*by_session.values())) == 2


def test_any_replica_goes_on_with_any_session(cluster: Cluster) -> None:
    names = set()
    with httpx.Client(base_url=cluster.url, trust_env=False, timeout=30) as http:
        made = http.post("/v1/sessions", json={"model": "arm", "seed": 1}).json()
        for step in range(12):  # sent astray on purpose
            answer = http.post(
                f"/v1/sessions/{made['session_id']}/act",
                json={"observation": observe("arm", step).tolist(), "include": [], "step": step},
                headers={"x-session-id": f"astray-{step}"},
            )
            assert answer.json()["step"] == step, answer.text
            names.add(answer.headers["thick-replica"])
    assert len(names) == 2


def test_a_session_is_watched_through_the_proxy(repository: Path, cluster: Cluster) -> None:
    """Where it acts: the same header leads both there."""
    lines: list[str] = []
    with PlanningClient(cluster.url) as client, client.session("arm", seed=1) as session:
        with (
            httpx.Client(base_url=cluster.url, trust_env=False, timeout=30) as http,
            http.stream(
                "GET", f"/v1/sessions/{session.id}/events", headers={"x-session-id": session.id}
            ) as events,
        ):
            assert events.status_code == 200
            reading = events.iter_lines()
            assert next(reading).startswith(":")
            for step in range(3):
                session.act(observe("arm", step))
            while sum(line.startswith("event: act") for line in lines) < 3:
                lines.append(next(reading))
    assert [json.loads(line[6:])["step"] for line in lines if line.startswith("data: ")][:2] == [0, 1]


def test_the_websocket_goes_through_the_proxy(cluster: Cluster) -> None:
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    address = cluster.url.replace("http", "ws")
    policy = WebsocketClientPolicy(f"{address}/openpi?model=arm&method=flat&iterations=1&samples=8&elites=2")
    try:
        assert policy.infer({"observation": observe("arm", 0), "prompt": "go"})["actions"].shape[-1] == 2
    finally:
        policy._ws.close()


def test_a_killed_replica_and_a_restarted_redis_lose_no_step_and_repeat_none(
    cluster: Cluster, repository: Path, tmp_path: Path
) -> None:
    with Server(repository, tmp_path) as alone, alone.client() as client:
        expected = [episode(client, seed) for seed in SEEDS]

    def play(seed: int) -> list[bytes]:
        with PlanningClient(cluster.url, retries=PATIENT) as client:
            return episode(client, seed)

    with playing(SEEDS, play, 300) as found:
        time.sleep(0.5)
        cluster.replicas()[0].send_signal(signal.SIGKILL)
    assert [found[seed] for seed in SEEDS] == expected
    cluster.wait_ready(2)  # Ray has started another one


def test_what_does_not_fit_a_cluster_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    from service.cluster.deployment import build, replicas_of
    from thick.cli import main

    assert main(["serve", "--ray", "local", "--store", "memory://"]) == 2
    assert "redis://" in capsys.readouterr().err
    assert main(["serve", "--ray", "local", "--workers", "2", "--store", "redis://x"]) == 2
    assert "--replicas" in capsys.readouterr().err
    assert main(["serve", "--ray", "127.0.0.1:1", "--store", "redis://x"]) == 2  # at once
    assert "no Ray cluster there" in capsys.readouterr().err
    assert [replicas_of(text) for text in ("2", "2..8")] == [(2, 2), (2, 8)]
    for wrong in ("0", "8..2", "two", "1..x", ""):
        with pytest.raises(SettingsError, match="replicas"):
            replicas_of(wrong)
    values = {"models": "checkpoints", "store": "redis://127.0.0.1:1/0", "replicas": "2..4"}
    with pytest.raises(SettingsError, match="no keys"):  # Ray says who can reach it
        build(values)
    made = build({**values, "allow_anonymous": True})
    assert made is not None


def test_the_config_file_is_one_that_ray_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml
    from ray._common.utils import import_attr
    from ray.serve.config import gRPCOptions
    from ray.serve.schema import ServeDeploySchema

    from tests.docs.blocks import ROOT

    config = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "deploy/serve.yaml").read_text()))
    assert config.grpc_options is not None
    assert gRPCOptions(**config.grpc_options.model_dump()).grpc_servicer_func_callable
    (application,) = config.applications
    assert application.import_path is not None
    assert import_attr(application.import_path)({**application.args, "models": "checkpoints"}) is not None
