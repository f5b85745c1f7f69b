"""gRPC through Ray Serve's proxy: the service's own methods, with the same answers, problems and affinity as HTTP."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from clients.errors import InvalidRequestError, NotFoundError, StepConflictError
from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from service.protocol import protobuf
from service.protocol.generated import planner_pb2 as pb
from service.protocol.generated.planner_pb2_grpc import PlannerStub
from service.settings import Settings
from tests.faults.support import PATIENT, Server
from tests.players import playing
from tests.service.support import observe

pytest.importorskip("ray.serve", reason="no Ray: pip install -e '.[cluster]'")

from tests.cluster.conftest import Cluster
from tests.cluster.test_cluster import SEEDS, episode

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def client(cluster: Cluster) -> Iterator[GrpcPlanningClient]:
    with GrpcPlanningClient(cluster.grpc) as made:
        yield made


def test_a_session_over_grpc_is_the_one_over_http(cluster: Cluster, client: GrpcPlanningClient) -> None:
    assert client.ready()
    assert [model.name for model in client.models()] == ["arm"]
    with PlanningClient(cluster.url) as other:
        assert episode(client, 3) == episode(other, 3)
        with client.session("arm", seed=3) as session:
            first = session.decide(observe("arm", 0))
            attached = other.attach(session.id)
            attached.step = 0  # as if its answer had been lost
            again = attached.decide(observe("arm", 0))
            assert again.replayed and np.array_equal(again.action, first.action)
            belief = session.belief()
            restored = client.restore(belief)
            assert np.array_equal(restored.act(observe("arm", 1)), session.act(observe("arm", 1)))
            restored.close()


def test_what_fails_has_its_problem(client: GrpcPlanningClient) -> None:
    with client.session("arm", seed=1) as session:
        session.act(observe("arm", 0))
        session.step = 7
        with pytest.raises(StepConflictError) as conflict:
            session.act(observe("arm", 1))
        assert conflict.value.expected_step == 1
        session.refresh()
        with pytest.raises(InvalidRequestError) as wrong:
            session.act(np.zeros(99, np.float32))
        assert wrong.value.errors
    with pytest.raises(NotFoundError):
        client.attach(session.id)


def test_imagining_streams_and_dreams_are_stepped(client: GrpcPlanningClient) -> None:
    with client.session("arm", seed=1) as session:
        session.act(observe("arm", 0))
        whole = session.imagine(level="low", horizon=5, rollouts=2)
        assert len(list(session.imagine_stream(level="low", horizon=5, rollouts=2))) == sum(
            len(each.steps) for each in whole.rollouts
        )
        with pytest.raises(InvalidRequestError):  # after Ray, which passes on the status and its text
            list(session.imagine_stream(level="low", horizon=10**6))
    still = np.zeros((2, *client.model("arm").action_space.shape), np.float32)
    with client.dream("arm", count=2, seed=3) as dream, client.dream("arm", count=2, seed=3) as same:
        for _ in range(3):
            assert np.array_equal(
                dream.step(still, autoreset=True).reward, same.step(still, autoreset=True).reward
            )
        assert dream.step_number == 3


def test_a_session_sticks_to_its_replica(cluster: Cluster, client: GrpcPlanningClient) -> None:
    by_session: dict[str, set[str]] = {}
    with grpc.insecure_channel(cluster.grpc) as channel:
        stub: Any = PlannerStub(channel)
        sessions = [client.session("arm", seed=seed) for seed in range(12)]
        for step in range(3):
            for session in sessions:
                body = {"session_id": session.id, "observation": observe("arm", step)}
                _, call = stub.Act.with_call(
                    protobuf.from_dict(pb.ActRequest, body), metadata=[("session_id", session.id)]
                )
                by_session.setdefault(session.id, set()).add(dict(call.trailing_metadata())["thick-replica"])
        for session in sessions:
            session.close()
    assert all(len(names) == 1 for names in by_session.values())
    assert len(set.union(*by_session.values())) == 2


def test_a_session_has_one_replica_over_either_way(cluster: Cluster, client: GrpcPlanningClient) -> None:
    """Else a page in the browser would watch a replica on which the session does not act."""
    import httpx

    with client.session("arm", seed=1) as session, grpc.insecure_channel(cluster.grpc) as channel:
        stub: Any = PlannerStub(channel)
        metadata = [("session_id", session.id)]
        _, call = stub.GetSession.with_call(pb.GetSessionRequest(session_id=session.id), metadata=metadata)
        answer = httpx.get(
            f"{cluster.url}/v1/sessions/{session.id}", headers={"x-session-id": session.id}, trust_env=False
        )
        assert answer.headers["thick-replica"] == dict(call.trailing_metadata())["thick-replica"]


def test_a_killed_replica_loses_no_step_over_grpc(cluster: Cluster, repository: Path, tmp_path: Path) -> None:
    with Server(repository, tmp_path) as alone, alone.client() as client:
        expected = [episode(client, seed) for seed in SEEDS]

    def play(seed: int) -> list[bytes]:
        with GrpcPlanningClient(cluster.grpc, retries=PATIENT) as client:
            return episode(client, seed)

    with playing(SEEDS, play, 300) as found:
        time.sleep(0.5)
        cluster.replicas()[0].send_signal(signal.SIGKILL)
    assert [found[seed] for seed in SEEDS] == expected
    cluster.wait_ready(2)


def test_keys_reach_the_replicas_as_they_are() -> None:
    from service.cluster.deployment import build

    given = Settings(api_keys="one,two", models=Path("checkpoints"), store="redis://127.0.0.1:1/0")
    values = {name: getattr(given, name) for name in given.model_fields_set}
    (bound,) = build({**values, "otlp_endpoint": None})._bound_deployment.init_args
    there = Settings(**bound)
    assert [key.get_secret_value() for key in there.api_keys] == ["one", "two"]
    assert there.otlp_endpoint is None and there.models == given.models


def test_grpc_is_not_opened_to_everybody_unasked() -> None:
    """Ray's gRPC proxy listens on every address, whatever ``--host`` says."""
    from service.cluster.exposure import grpc_refusal

    store = "redis://127.0.0.1:1/0"
    assert "every address" in (grpc_refusal(Settings(store=store)) or "")
    assert grpc_refusal(Settings(store=store, api_keys="key")) is None
    assert grpc_refusal(Settings(store=store, allow_anonymous=True)) is None
    tls = Settings(store=store, api_keys="key", tls_cert=Path("a.pem"), tls_key=Path("b.pem"))
    assert "TLS" in (grpc_refusal(tls) or "")
