"""What operators and impatient clients see of gRPC: cancellation, deadlines, keys, TLS, health, draining."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from clients.connection import Tls
from clients.errors import AccessError
from clients.grpc_client import GrpcPlanningClient
from service.core import PlanningService
from service.faces.envelope import Envelope
from service.faces.grpc.gate import Asked, Gate
from service.faces.grpc.server import GrpcServer
from service.operations.keys import Keys
from service.operations.tracing import Tracing
from service.protocol.protobuf import SERVICE_NAME, problem_from_status
from service.settings import SettingsError
from service.stores.record import Record
from tests.service.grpc_support import OverGrpc, act_request, failure, over_grpc
from tests.service.support import observe, over_http, running, settings_for, write_model

pytestmark = pytest.mark.asyncio(loop_scope="session")
QUICK = {"method": "flat", "iterations": 1, "samples": 8, "elites": 2}
PEM = Path(__file__).parents[1] / "tls"


@pytest_asyncio.fixture(loop_scope="session")
async def asking(fresh: PlanningService) -> AsyncIterator[OverGrpc]:
    """A gRPC client of a service of the test's own."""
    async with over_grpc(fresh) as made:
        yield made


@contextlib.contextmanager
def held(service: PlanningService) -> Iterator[threading.Event]:
    """The worker does nothing else until the event is set."""
    gate = threading.Event()
    blocked = service.engine.call(lambda: gate.wait(10))
    try:
        yield gate
    finally:
        gate.set()
        blocked.cancel()


async def until(true: Callable[[], bool], within_s: float = 5.0) -> None:
    """Waits for something to become true."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it never happened"
        await asyncio.sleep(0.005)


# -- cancellation and deadlines ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_a_cancelled_act_leaves_the_queue_and_changes_nothing(
    fresh: PlanningService, asking: OverGrpc, stream: bool
) -> None:
    session = await asking.session(planner=QUICK)
    slots = fresh.repository.get("arm").slots
    used = slots.used
    with held(fresh):
        request = act_request(session_id=session, observation=observe("arm"), step=0)
        call = asking.stream() if stream else asking.stub.Act(request)
        if stream:
            await call.write(request)
        await until(lambda: fresh.engine.depth == 1)
        call.cancel()
        await until(lambda: fresh.acting.running == 0)
    await until(lambda: fresh.engine.depth == 0)
    assert (await asking.ask("GetSession", {"session_id": session}))["step"] == 0
    assert slots.used == used
    assert (await asking.act(session, observe("arm"), step=0))["replayed"] is False


async def test_an_act_that_is_being_stored_when_its_client_goes_waits_for_the_retry(
    fresh: PlanningService, asking: OverGrpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await asking.session(planner=QUICK)
    store, storing, gate = fresh.journal.store, asyncio.Event(), asyncio.Event()
    write = store.write

    async def slow(record: Record) -> None:
        storing.set()
        await gate.wait()
        await write(record)

    monkeypatch.setattr(store, "write", slow)
    monkeypatch.setattr(store, "write_now", lambda record: False)
    request = {"session_id": session, "observation": observe("arm"), "step": 0}
    call = asking.call("Act", request)
    await asyncio.wait_for(storing.wait(), 5)
    call.cancel()
    await asyncio.sleep(0.05)
    assert fresh.acting.running == 1
    gate.set()
    await until(lambda: fresh.acting.running == 0)
    again = await asking.ask("Act", request)
    assert again["replayed"] is True and again["step"] == 0
    assert (await asking.ask("GetSession", {"session_id": session}))["step"] == 1


async def test_a_session_that_is_being_changed_when_its_client_goes_is_changed_whole(
    fresh: PlanningService, asking: OverGrpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await asking.session(planner=QUICK)
    await asking.act(session, observe("arm"))
    store, storing, gate = fresh.journal.store, asyncio.Event(), asyncio.Event()
    write = store.write

    async def slow(record: Record) -> None:
        storing.set()
        await gate.wait()
        await write(record)

    monkeypatch.setattr(store, "write", slow)
    monkeypatch.setattr(store, "write_now", lambda record: False)
    call = asking.call("ResetSession", {"session_id": session})
    await asyncio.wait_for(storing.wait(), 5)
    call.cancel()
    await asyncio.sleep(0.05)
    gate.set()
    assert (await asking.act(session, observe("arm"), step=0))["replayed"] is False


async def test_a_call_whose_own_deadline_passes_leaves_the_queue(
    fresh: PlanningService, asking: OverGrpc
) -> None:
    session = await asking.session(planner=QUICK)
    with held(fresh):
        # While the engine is held nothing else could end it.
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await asking.call("Act", {"session_id": session, "observation": observe("arm")}, timeout=0.15)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: fresh.acting.running == 0)
    await until(lambda: fresh.engine.depth == 0)
    assert (await asking.ask("GetSession", {"session_id": session}))["step"] == 0
    counted = fresh.metrics.exposition().decode()
    assert 'route="/thick.v1.Planner/Act",status="DEADLINE_EXCEEDED"} 1.0' in counted


async def test_a_deadline_that_passes_in_the_queue_is_reported_without_planning(
    fresh: PlanningService, asking: OverGrpc
) -> None:
    session = await asking.session(planner=QUICK)
    tree = {"session_id": session, "observation": observe("arm"), "planner": {"deadline_ms": 40}}
    with held(fresh) as gate:
        asyncio.get_running_loop().call_later(0.12, gate.set)
        status, problem = await asking.refused("Act", tree)
    assert (status, problem.code, problem.status) == ("DEADLINE_EXCEEDED", "deadline_exceeded", 504)
    assert (await asking.ask("GetSession", {"session_id": session}))["step"] == 0


async def test_a_search_stops_for_its_deadline(asking: OverGrpc) -> None:
    session = await asking.session(planner={**QUICK, "iterations": 100, "samples": 2000})
    await asking.act(session, observe("arm"), planner={"deadline_ms": 60})
    answer = await asking.act(session, observe("arm"), planner={"deadline_ms": 60})
    budget = answer["plan"]["budget"]
    assert budget["deadline_ms"] == 60
    assert budget["iterations_done"] < budget["iterations_asked"] == 100


async def test_a_stream_of_imagination_that_nobody_reads_stops(
    fresh: PlanningService, asking: OverGrpc
) -> None:
    session = await asking.session()
    await asking.act(session, observe("arm"), planner=QUICK)
    slots = fresh.repository.get("arm").slots
    used = slots.used
    call = asking.call(
        "ImagineStream", {"session_id": session, "level": "low", "horizon": 1000, "policy": "prior"}
    )
    await call.read()
    assert slots.used == used  # the session's own slot, held twice
    call.cancel()
    await fresh.engine.call(lambda: None)
    await until(lambda: not fresh.engine._tasks)
    await asking.ask("DeleteSession", {"session_id": session})
    assert slots.used == used - 1


async def test_a_full_queue_is_reported_with_the_time_to_come_back(small: Path) -> None:
    async with running(small, queue_limit=1) as service, over_grpc(service) as asking:
        sessions = [await asking.session(planner=QUICK) for _ in range(2)]
        with held(service):
            waiting = asyncio.ensure_future(asking.act(sessions[0], observe("arm")))
            await until(lambda: service.engine.depth == 1)
            call = asking.call("Act", {"session_id": sessions[1], "observation": observe("arm")})
            with pytest.raises(grpc.aio.AioRpcError) as full:
                await call
        status, problem = failure(full.value)
        assert (status, problem.code, problem.retry_after) == ("RESOURCE_EXHAUSTED", "queue_full", 1.0)
        assert dict(full.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
        assert (await waiting)["step"] == 0


# -- keys and TLS ----------------------------------------------------------------------------------------------


async def test_keys_are_required_once_they_are_set(small: Path) -> None:
    changes = {"api_keys": "me", "admin_keys": "root", "model_control": True}
    async with running(small, **changes) as service, over_grpc(service) as asking:

        def bearing(key: str) -> tuple[tuple[str, str], ...]:
            return (("authorization", f"Bearer {key}"),)

        status, problem = await asking.refused("ListModels")
        assert (status, problem.status) == ("UNAUTHENTICATED", 401)
        status, problem = await asking.refused("ListModels", metadata=bearing("other"))
        assert (status, problem.status) == ("PERMISSION_DENIED", 403)
        assert (await asking.ask("ListModels", metadata=bearing("me")))["models"]
        stream = asking.stream()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()
        assert failure(refused.value)[0] == "UNAUTHENTICATED"
        for method in ("UnloadModel", "LoadModel"):
            status, problem = await asking.refused(method, {"name": "arm"}, metadata=bearing("me"))
            assert (status, problem.code) == ("PERMISSION_DENIED", "forbidden")
            await asking.ask(method, {"name": "arm"}, metadata=bearing("root"))
        # Load balancers have no keys.
        health = health_pb2_grpc.HealthStub(asking.channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == 1


async def test_models_cannot_be_unloaded_unless_that_was_allowed(asking: OverGrpc) -> None:
    status, problem = await asking.refused("UnloadModel", {"name": "arm"})
    assert (status, problem.code) == ("PERMISSION_DENIED", "admin_disabled")


async def test_tls_is_spoken_where_it_is_set(small: Path) -> None:
    tls = {"tls_cert": PEM / "cert.pem", "tls_key": PEM / "key.pem", "api_keys": "me"}
    credentials = grpc.ssl_channel_credentials((PEM / "cert.pem").read_bytes())
    async with running(small, **tls) as service, over_grpc(service, credentials=credentials) as asking:

        def drive() -> None:
            url = f"grpcs://localhost:{asking.server.port}"
            with GrpcPlanningClient(url, tls=Tls(ca=PEM / "cert.pem"), api_key="me") as client:
                assert [model.name for model in client.models()] == ["arm"]
            with GrpcPlanningClient(url, tls=Tls(ca=PEM / "cert.pem")) as client, pytest.raises(AccessError):
                client.models()

        assert asking.server.secure
        await asking.ask("ListModels", metadata=(("authorization", "Bearer me"),))
        await asyncio.to_thread(drive)


async def test_a_port_that_is_taken_is_the_operator_s_to_change(asking: OverGrpc, small: Path) -> None:
    with pytest.raises(SettingsError, match="choose another --grpc-port"):
        GrpcServer(settings_for(small, grpc_port=asking.server.port))


async def test_a_certificate_that_is_none_is_reported_before_anything_starts(small: Path) -> None:
    for cert, key in ((PEM / "key.pem", PEM / "cert.pem"), (PEM / "none.pem", PEM / "key.pem")):
        with pytest.raises(SettingsError, match=r"--tls-cert .* PEM"):
            GrpcServer(settings_for(small, grpc_port=0, tls_cert=cert, tls_key=key))


# -- health, reflection, shutting down ----------------------------------------------------------------------


async def test_a_health_check_names_the_model_that_failed_and_its_reason(tmp_path: Path) -> None:
    write_model(tmp_path, "arm", observation="vector", action="continuous")
    (tmp_path / "arm" / "1" / "model.safetensors").write_bytes(b"cut off")
    async with running(tmp_path) as service, over_grpc(service) as asking:
        call = health_pb2_grpc.HealthStub(asking.channel).Check(health_pb2.HealthCheckRequest())
        assert (await call).status == health_pb2.HealthCheckResponse.NOT_SERVING
        problem = problem_from_status("UNAVAILABLE", None, await call.trailing_metadata())
        async with over_http(service) as client:
            over_http_too = (await client.get("/health/ready")).json()
    assert problem.code == "model_not_ready" and problem.extra["state"] == "failed"
    assert "'arm'" in problem.detail and problem.detail == over_http_too["detail"]


async def test_health_is_serving_once_ready_and_not_while_draining(
    fresh: PlanningService, asking: OverGrpc
) -> None:
    health = health_pb2_grpc.HealthStub(asking.channel)
    for name in ("", SERVICE_NAME):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == 1
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await health.Check(health_pb2.HealthCheckRequest(service="other"))
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    listed = await health.List(health_pb2.HealthListRequest())
    assert {name: entry.status for name, entry in listed.statuses.items()} == {"": 1, SERVICE_NAME: 1}
    watching = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
    fresh.draining = True
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await watching.read() is grpc.aio.EOF
    elsewhere = health.Watch(health_pb2.HealthCheckRequest(service="other"))
    assert (await elsewhere.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def test_reflection_describes_the_service(asking: OverGrpc) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(asking.channel).ServerReflectionInfo()
    await reflection.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = [service.name for service in (await reflection.read()).list_services_response.service]
    assert {SERVICE_NAME, "grpc.health.v1.Health"} <= set(names)
    await reflection.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE_NAME))
    files = (await reflection.read()).file_descriptor_response.file_descriptor_proto
    described = [descriptor_pb2.FileDescriptorProto.FromString(each) for each in files]
    methods = [method.name for file in described for each in file.service for method in each.method]
    assert {"Act", "ActStream", "ImagineStream", "RestoreSession"} <= set(methods)
    await reflection.done_writing()


async def test_draining_answers_what_runs_ends_idle_streams_and_takes_nothing_new(
    fresh: PlanningService, asking: OverGrpc
) -> None:
    busy, idle = [await asking.session(planner=QUICK) for _ in range(2)]
    stream = asking.stream()
    await stream.write(act_request(session_id=idle, observation=observe("arm")))
    await stream.read()
    with held(fresh) as gate:
        running_act = asyncio.ensure_future(asking.act(busy, observe("arm")))
        await until(lambda: fresh.engine.depth == 1)
        draining = asyncio.ensure_future(fresh.drain(5.0))
        await asyncio.sleep(0)
        status, problem = await asking.refused("Act", {"session_id": idle, "observation": observe("arm", 1)})
        assert (status, problem.code, problem.retry_after) == ("UNAVAILABLE", "draining", 5.0)
        gate.set()
        assert (await running_act)["step"] == 0
        assert await draining
    stopping = asyncio.ensure_future(asking.server.stop(600.0))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    assert failure(ended.value)[1].code == "draining"
    await asyncio.wait_for(stopping, 60)  # it does not wait for what is idle


class ExecuteBatchError(Exception):
    """As gRPC's own, which is raised where an answer cannot be written since the client is gone."""


async def test_an_answer_that_nobody_takes_any_more_is_no_failure_of_ours(
    fresh: PlanningService, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(Envelope(fresh, Tracing(fresh.settings)), Keys(fresh.settings))
    context: Any = SimpleNamespace(invocation_metadata=lambda: (), set_trailing_metadata=lambda pairs: None)

    async def write(asked: Asked) -> None:
        raise ExecuteBatchError("cannot be sent")

    with pytest.raises(asyncio.CancelledError):
        await gate.stream("ActStream", context, write)
    assert "request failed" not in caplog.text
