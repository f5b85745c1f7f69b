"""OpenTelemetry: one span a request, one for each phase of an act, all in the caller's trace."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import itertools
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from service.core import PlanningService
from service.faces.http.app import create_app
from service.operations.tracing import Tracing
from tests.service.grpc_support import OverGrpc, act_request, over_grpc
from tests.service.sockets import over_sockets
from tests.service.support import Caller, observe, running, settings_for

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning"),  # openpi-client's own
]
QUICK = {"method": "flat", "iterations": 1, "samples": 8, "elites": 2}
PHASES = ["decode", "queue", "observe", "high_plan", "low_plan", "store", "encode"]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """Where spans go."""
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter, small: Path) -> Tracing:
    """A service's tracing into memory."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    made = Tracing(settings_for(small))
    made.use(provider)
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def client(service: PlanningService, tracing: Tracing) -> AsyncIterator[httpx.AsyncClient]:
    async with traced(service, tracing) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def grpc_client(service: PlanningService, tracing: Tracing) -> AsyncIterator[OverGrpc]:
    async with over_grpc(service, tracing=tracing) as made:
        yield made


def traced(service: PlanningService, tracing: Tracing) -> httpx.AsyncClient:
    """A client of a service's application, which traces."""
    transport = httpx.ASGITransport(app=create_app(service, tracing=tracing))
    return httpx.AsyncClient(transport=transport, base_url="http://service")


def requests_of(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.kind == SpanKind.SERVER]


def phases_of(spans: InMemorySpanExporter, request: ReadableSpan) -> list[ReadableSpan]:
    mine = [
        span
        for span in spans.get_finished_spans()
        if span.parent is not None and span.parent.span_id == request.context.span_id
    ]
    return sorted(mine, key=lambda span: span.start_time or 0)


def check_act(spans: InMemorySpanExporter, request: ReadableSpan, session: str, step: int) -> None:
    """A request span of an act in the caller's trace, with its phases end to end within it."""
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.parent is not None and f"{request.parent.span_id:016x}" == PARENT
    attributes = dict(request.attributes or {})
    assert attributes["thick.session_id"] == session and attributes["thick.step"] == step
    assert attributes["thick.batch_size"] == 1 and attributes["thick.replayed"] is False
    assert request.status.status_code == StatusCode.UNSET
    phases = phases_of(spans, request)
    assert [span.name for span in phases] == PHASES
    for before, after in itertools.pairwise(phases):
        assert before.end_time == after.start_time
    assert phases[-1].end_time <= request.end_time  # type: ignore[operator]
    assert phases[4].end_time > phases[4].start_time  # type: ignore[operator]


async def test_an_act_over_http_has_a_span_and_one_for_each_phase(
    client: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    caller = Caller(client)
    session = await caller.session("arm", planner=QUICK)
    spans.clear()
    path = f"/v1/sessions/{session}/act"
    body = {"observation": observe("arm").tolist(), "step": 0, "include": []}
    response = await client.post(path, json=body, headers={"traceparent": CALLER})
    assert response.status_code == 200
    (request,) = requests_of(spans)
    assert request.name == "POST /v1/sessions/{session_id}/act"
    assert dict(request.attributes or {})["http.response.status_code"] == 200
    check_act(spans, request, session, 0)
    spans.clear()
    assert (await client.post(path, json=body)).json()["replayed"] is True
    (again,) = requests_of(spans)
    assert dict(again.attributes or {})["thick.replayed"] is True
    assert again.parent is None and phases_of(spans, again) == []


async def test_an_act_over_grpc_has_the_same_spans(
    grpc_client: OverGrpc, spans: InMemorySpanExporter
) -> None:
    session = await grpc_client.session(planner=QUICK)
    spans.clear()
    metadata = (("traceparent", CALLER),)
    await grpc_client.ask("Act", {"session_id": session, "observation": observe("arm")}, metadata=metadata)
    stream = grpc_client.stream(metadata=metadata)
    for step in (1, 2):
        await stream.write(act_request(session_id=session, observation=observe("arm"), step=step))
        await stream.read()
    await stream.done_writing()
    assert [span.name for span in requests_of(spans)] == [
        "/thick.v1.Planner/Act",
        "/thick.v1.Planner/ActStream",
        "/thick.v1.Planner/ActStream",
    ]
    for step, request in enumerate(requests_of(spans)):
        check_act(spans, request, session, step)


async def test_a_client_s_acts_have_a_trace_each_even_on_one_stream(
    service: PlanningService, tracing: Tracing, spans: InMemorySpanExporter
) -> None:
    # OpenTelemetry's own provider is one for the process; this is what a program that traces sets up.
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)

    def drive(http: int, grpc: int) -> None:
        clients = (
            PlanningClient(f"http://127.0.0.1:{http}"),
            GrpcPlanningClient(f"grpc://127.0.0.1:{grpc}", stream_acts=False),
            GrpcPlanningClient(f"grpc://127.0.0.1:{grpc}"),
        )
        for client in clients:
            with client, client.session("arm", planner=QUICK) as session:
                for n in range(2):
                    session.act(observe("arm", n))
                list(session.imagine_stream(level="low", horizon=1, policy="prior"))

    async with over_sockets(service, tracing=tracing) as port, over_grpc(service, tracing=tracing) as asking:
        await asyncio.to_thread(drive, port, asking.server.port)
    finished = spans.get_finished_spans()
    calls = {span.context.span_id: span for span in finished if span.kind == SpanKind.CLIENT}
    acts = [span for span in requests_of(spans) if dict(span.attributes or {}).get("thick.session_id")]
    assert len(acts) == 6
    parents = [calls[act.parent.span_id] for act in acts if act.parent is not None]
    assert len({span.context.span_id for span in parents}) == 6
    assert {span.name for span in parents} == {"thick Act"}
    spans.shutdown()


async def test_an_act_over_the_websocket_has_the_same_spans(
    service: PlanningService, tracing: Tracing, spans: InMemorySpanExporter
) -> None:
    def drive(port: int) -> str:
        policy = WebsocketClientPolicy(f"ws://127.0.0.1:{port}/openpi?model=arm&method=flat&iterations=1")
        policy.infer({"observation": observe("arm")})
        policy._ws.close()
        return str(policy.get_server_metadata()["session_id"])

    async with over_sockets(service, tracing=tracing) as port:
        session = await asyncio.to_thread(drive, port)
    (request,) = requests_of(spans)
    assert request.name == "/openpi" and dict(request.attributes or {})["thick.session_id"] == session
    assert [span.name for span in phases_of(spans, request)] == PHASES


async def test_only_the_server_s_failures_are_errors_of_a_span(
    client: httpx.AsyncClient, grpc_client: OverGrpc, service: PlanningService, spans: InMemorySpanExporter
) -> None:
    assert (await client.get("/v1/sessions/missing")).status_code == 404
    await grpc_client.refused("GetSession", {"session_id": "missing"})
    assert (await client.get("/nowhere")).status_code == 404
    service.draining = True
    try:
        assert (await client.post("/v1/sessions", json={"model": "arm"})).status_code == 503
        await grpc_client.refused("CreateSession", {"model": "arm"})
    finally:
        service.draining = False
    missing, missing_grpc, unmatched, draining, draining_grpc = requests_of(spans)
    assert unmatched.name == "GET unmatched"
    for span in (missing, missing_grpc, unmatched):
        assert span.status.status_code == StatusCode.UNSET
    for span in (draining, draining_grpc):
        assert span.status.status_code == StatusCode.ERROR
    assert dict(missing.attributes or {})["http.response.status_code"] == 404
    assert dict(missing_grpc.attributes or {})["thick.problem"] == "session_not_found"


# -- a collector ---------------------------------------------------------------------------------------------


@pytest.fixture
def collector() -> Iterator[tuple[str, queue.SimpleQueue[ExportTraceServiceRequest]]]:
    """The address of a collector (OTLP over HTTP), and what it received."""
    received: queue.SimpleQueue[ExportTraceServiceRequest] = queue.SimpleQueue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                raw = gzip.decompress(raw)
            if self.path == "/v1/traces":
                received.put(ExportTraceServiceRequest.FromString(raw))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


async def test_spans_reach_the_collector_that_the_settings_name(
    small: Path, collector: tuple[str, queue.SimpleQueue[ExportTraceServiceRequest]]
) -> None:
    endpoint, received = collector
    async with running(small, otlp_endpoint=endpoint) as service:
        tracing = Tracing(service.settings)
        async with traced(service, tracing) as client:
            caller = Caller(client)
            session = await caller.session("arm", planner=QUICK)
            await caller.act(session, observe("arm"))
        await asyncio.to_thread(tracing.shutdown)
    exported = received.get(timeout=5)
    (resource,) = exported.resource_spans
    names = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert names["service.name"] == "thick"
    sent = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert {"POST /v1/sessions", "POST /v1/sessions/{session_id}/act", *PHASES} <= set(sent)


async def test_without_a_collector_nothing_is_traced(small: Path) -> None:
    tracing = Tracing(settings_for(small))
    with tracing.request("x", {"traceparent": CALLER}, {}):
        tracing.answered("x", 200)
        tracing.acted({}, None, 0.0)
    tracing.shutdown()
    assert tracing._tracer is None
