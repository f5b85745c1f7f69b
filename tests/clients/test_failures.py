"""Lost answers, busy servers, strangers on the port: what the clients make of them."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from stamina import instrumentation

from clients import GrpcPlanningClient, PlanningClient, calls
from clients.calls import Call
from clients.connection import ServiceConnection, Tls
from clients.episodes import Task, TaskMismatchError
from clients.errors import (
    BusyError,
    ConnectionLostError,
    DeadlinePassedError,
    ModelsFailedError,
    NotConnectedError,
    ServerFailedError,
    UnexpectedAnswerError,
)
from clients.results import SessionInfo
from clients.retries import Retries
from tests.clients.conftest import Address, serving
from tests.clients.proxy import LossyProxy
from tests.clients.test_contract import SEEN

QUICK = Retries(attempts=4, first_pause_s=0.001, longest_pause_s=0.05)


@pytest.fixture(params=["http", "grpc", "grpc-stream"])
def lossy(request: pytest.FixtureRequest, address: Address) -> Iterator[tuple[Any, LossyProxy]]:
    """A client behind a network that loses answers when it is told to."""
    url = address.http if request.param == "http" else address.grpc
    with LossyProxy(url) as proxy:
        made: Any
        if request.param == "http":
            made = PlanningClient(proxy.url, api_key="me", retries=QUICK)
        else:
            stream = request.param == "grpc-stream"
            made = GrpcPlanningClient(
                proxy.url,
                api_key="me",
                stream_acts=stream,
                retries=Retries(attempts=20, first_pause_s=0.02, longest_pause_s=0.2),
            )
        with made:
            yield made, proxy


def test_an_act_whose_answer_was_lost_is_done_once(lossy: tuple[Any, LossyProxy], address: Address) -> None:
    client, proxy = lossy
    with PlanningClient(address.http, api_key="me") as sound, sound.session("doorkey", seed=11) as twin:
        expected = [twin.act(observation) for observation in SEEN]
    with client.session("doorkey", seed=11) as session:
        actions = [session.act(SEEN[0])]
        proxy.lose_answers(1)
        decision = session.decide(SEEN[1], include=())
        actions.append(decision.action)
        assert proxy.lost == 1
        assert decision.step == 1
        actions += [session.act(observation) for observation in SEEN[2:]]
        assert session.refresh().step == len(SEEN)
    assert actions == expected


def test_an_act_answered_before_is_marked_as_replayed(address: Address) -> None:
    with LossyProxy(address.http) as proxy, PlanningClient(proxy.url, api_key="me", retries=QUICK) as client:
        with client.session("doorkey", seed=1) as session:
            session.act(SEEN[0])
            proxy.lose_answers(1)
            lost = session.decide(SEEN[1], include=())
            assert lost.replayed
            assert not session.decide(SEEN[2], include=()).replayed


def test_a_session_whose_creation_was_lost_is_not_created_twice(address: Address) -> None:
    with LossyProxy(address.http) as proxy, PlanningClient(proxy.url, api_key="me", retries=QUICK) as client:
        before = len(client.sessions())
        proxy.lose_answers(1)
        with pytest.raises(ConnectionLostError, match="create a session of model doorkey"):
            client.session("doorkey", ttl_s=2)
        assert len(client.sessions()) == before + 1


def test_a_deletion_whose_answer_was_lost_has_worked(address: Address) -> None:
    with LossyProxy(address.http) as proxy, PlanningClient(proxy.url, api_key="me", retries=QUICK) as client:
        session = client.session("doorkey")
        proxy.lose_answers(1)
        session.close()
        assert proxy.lost == 1
        assert session.id not in {info.session_id for info in client.sessions()}


def test_a_session_goes_on_after_all_connections_were_cut(lossy: tuple[Any, LossyProxy]) -> None:
    client, proxy = lossy
    with client.session("doorkey", seed=1) as session:
        session.act(SEEN[0])
        proxy.cut()
        assert session.decide(SEEN[1], include=()).step == 1


@pytest.mark.parametrize("kind", [PlanningClient, GrpcPlanningClient])
def test_nobody_listening_is_said_with_the_host_and_what_to_do(kind: Any) -> None:
    with kind("127.0.0.1:9", retries=Retries(attempts=2, first_pause_s=0.001)) as client:
        with pytest.raises(NotConnectedError) as caught:
            client.session("doorkey")
        assert "127.0.0.1:9: create a session of model doorkey: cannot connect" in str(caught.value)
        assert "thick serve" in str(caught.value)
        assert not client.live() and not client.ready()
        with pytest.raises(NotConnectedError, match="nothing answers"):
            client.wait_until_ready(0.05, pause_s=0.01)


def answering(*answers: Callable[[httpx.Request], httpx.Response], retries: Retries = QUICK) -> Any:
    """A client of a made-up server that gives these answers in turn, the last one for ever."""
    client = PlanningClient("http://made.up", retries=retries)
    asked = list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answers[min(len(asked), len(answers)) - 1](request)

    client._http = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://made.up")
    client.asked = asked  # type: ignore[attr-defined]
    return client


def problem(
    status: int, code: str, *, extra: dict[str, Any] | None = None, **headers: str
) -> Callable[[httpx.Request], httpx.Response]:
    body = json.dumps({"status": status, "code": code, "detail": "as it is", **(extra or {})})
    kind = {"content-type": "application/problem+json", **headers}
    return lambda _: httpx.Response(status, content=body, headers=kind)


def models(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"models": []})


@pytest.mark.parametrize("busy", [problem(429, "queue_full"), problem(503, "model_not_ready")])
def test_a_busy_server_is_asked_again(busy: Any) -> None:
    client = answering(busy, busy, models)
    assert client.models() == []
    assert len(client.asked) == 3


def test_the_server_s_retry_after_is_waited_for() -> None:
    client = answering(problem(429, "queue_full", **{"retry-after": "0.04"}), models)
    began = time.monotonic()
    client.models()
    assert time.monotonic() - began >= 0.04


def test_retries_are_told_to_logging_with_their_reason_and_not_on_stdout(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("structlog.is_configured", lambda: False)  # as in a program that has a client alone
    instrumentation.set_on_retry_hooks(None)  # those of stamina, which tell an unconfigured structlog
    assert answering(problem(503, "draining"), models).models() == []
    assert capsys.readouterr().out == ""
    (told,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert told.startswith("http://made.up:80: list the models: 503 draining: as it is; trying again in 0.")


def test_who_has_a_session_is_patient_with_a_server_that_is_started_again() -> None:
    def asked(call: Call[Any]) -> int:
        times = 0
        with contextlib.suppress(NotConnectedError):
            for attempt in Retries(first_pause_s=0.0, longest_pause_s=0.0).context(call):
                with attempt:
                    times += 1
                    raise NotConnectedError("host", call.asked, "nobody listens")
        return times

    usual = Retries()
    pauses = [min(usual.first_pause_s * 2**n, usual.longest_pause_s) for n in range(11)]
    assert asked(calls.act(SessionInfo("5e55", "m", "1", 0), 0, {})) == len(pauses) + 1
    assert 20 < sum(pauses) < usual.total_s
    assert asked(calls.list_models()) == asked(calls.delete_session("5e55")) == 6


def test_what_ends_the_block_of_a_session_is_not_hidden_by_a_server_that_is_gone() -> None:
    info = {"session_id": "5e55", "model": "m", "version": "1", "step": 0, "planner": {}}

    def opened() -> Any:
        return answering(lambda _: httpx.Response(201, json=info), problem(503, "draining")).session("m")

    with pytest.raises(KeyboardInterrupt), opened():
        raise KeyboardInterrupt
    with pytest.raises(BusyError), opened():
        pass


def test_attempts_are_bounded() -> None:
    client = answering(problem(503, "draining"))
    with pytest.raises(BusyError, match="503 draining: as it is"):
        client.models()
    assert len(client.asked) == QUICK.attempts


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(504, "deadline_exceeded"), DeadlinePassedError),
        (problem(500, "internal", **{"x-request-id": "abc"}), ServerFailedError),
        (problem(503, "model_not_ready", extra={"state": "failed", "retry_after": 30.0}), BusyError),
    ],
)
def test_what_would_fail_again_is_asked_once(answer: Any, error: Any) -> None:
    client = answering(answer)
    with pytest.raises(error) as caught:
        client.models()
    assert len(client.asked) == 1
    assert caught.value.request_id in (None, "abc")


def test_what_stands_between_is_asked_again_where_nothing_can_happen_twice() -> None:
    answers = iter(
        [httpx.Response(502, text="<h1>Bad Gateway</h1>"), httpx.Response(200, json={"models": []})]
    )
    client = answering(lambda _: next(answers))
    assert client.models() == []
    client = answering(lambda _: httpx.Response(500, text="Internal Server Error"))
    with pytest.raises(ConnectionLostError, match="HTTP 500"):
        client.session("grid")  # which would be made twice
    assert len(client.asked) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda _: httpx.Response(502, text="<h1>Bad Gateway</h1>"),
            "HTTP 502, and not as the contract says",
        ),
        (lambda _: httpx.Response(404, json=["x"]), "HTTP 404"),
        (lambda _: httpx.Response(200, text="hello"), "the answer cannot be read"),
        (lambda _: httpx.Response(200, json={"modls": []}), "KeyError: 'models'"),
        (
            lambda _: httpx.Response(200, content=b"{", headers={"content-type": "application/json"}),
            "not JSON",
        ),
    ],
)
def test_another_program_on_the_port_is_distinguished_from_the_service(answer: Any, message: str) -> None:
    client = answering(answer)
    with pytest.raises(UnexpectedAnswerError, match=r"http://made\.up:80: list the models: ") as caught:
        client.models()
    assert message in str(caught.value)


def test_waiting_for_models_that_all_failed_ends_with_their_reasons() -> None:
    detail = "no model can be served; model 'door' version '1' failed: ValueError: the weights are damaged"
    body = {
        "status": 503,
        "code": "model_not_ready",
        "detail": detail,
        "state": "failed",
        "retry_after": 30.0,
    }
    kind = {"content-type": "application/problem+json"}
    client = answering(lambda _: httpx.Response(503, content=json.dumps(body), headers=kind))
    began = time.monotonic()
    with pytest.raises(
        ModelsFailedError, match="model 'door' version '1' failed: ValueError: the weights"
    ) as caught:
        client.wait_until_ready(60)
    assert caught.value.code == "model_not_ready" and "http://made.up:80: wait until ready" in str(
        caught.value
    )
    assert time.monotonic() - began < 30


def test_waiting_for_models_that_load_goes_on() -> None:
    left = iter(range(3, 0, -1))

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            loading = {"name": "door", "version": "2", "kind": "thick", "state": "loading"}
            failed = {**loading, "version": "1", "state": "failed", "reason": "damaged"}
            return httpx.Response(200, json={"models": [failed, loading]})
        return problem(503, "model_not_ready")(request) if next(left, 0) else httpx.Response(200, json={})

    client = answering(answer)
    client.wait_until_ready(60, pause_s=0.001)
    assert next(left, None) is None


def test_models_that_all_failed_are_reported_by_a_service_that_lists_them_alone() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/models":
            return problem(503, "model_not_ready")(request)
        failed = {
            "name": "door",
            "version": "1",
            "kind": "thick",
            "state": "failed",
            "reason": "damaged weights",
        }
        return httpx.Response(200, json={"models": [failed]})

    with pytest.raises(ModelsFailedError, match="model door version 1 failed: damaged weights"):
        answering(answer).wait_until_ready(60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PlanningClient, GrpcPlanningClient])
def test_waiting_for_a_service_whose_models_are_damaged_ends_with_the_reason(
    damaged: Address, kind: Any
) -> None:
    with kind(damaged.http if kind is PlanningClient else damaged.grpc) as client:
        with pytest.raises(ModelsFailedError, match=r"(?s)door.*failed.*SHA-256"):
            client.wait_until_ready(120)
        assert client.live() and not client.ready()


@pytest.mark.slow
def test_driving_a_model_that_failed_to_load_says_why_at_once(damaged: Address) -> None:
    with PlanningClient(damaged.http) as client:
        for env_id in (None, "gym:CartPole-v1"):
            with pytest.raises(
                TaskMismatchError, match=r"door.*could not be loaded by the service: .*SHA-256"
            ):
                Task.of(client, "doorkey", env_id=env_id, planner={})


@pytest.fixture(scope="module")
def damaged(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A service whose only model has other weights than its manifest says."""
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(repository / "doorkey", folder / "doorkey")
    with (folder / "doorkey" / "1" / "model.safetensors").open("r+b") as file:
        file.seek(-8, 2)
        file.write(b"damaged!")
    with serving(folder, folder / "serve.log", wait=False) as up:
        yield up


def test_a_stream_that_breaks_off_is_an_error_not_a_short_imagination() -> None:
    step = b'event: step\ndata: {"rollout": 0, "index": 0, "reward": 0.5}\n\n'

    def session(_: httpx.Request) -> httpx.Response:
        space = {"type": "Discrete", "n": 2}
        info = {"session_id": "s", "model": "m", "version": "1", "step": 0, "planner": {}}
        return httpx.Response(201, json={**info, "observation_space": space, "action_space": space})

    def stream(content: bytes) -> Callable[[httpx.Request], httpx.Response]:
        return lambda _: httpx.Response(200, content=content, headers={"content-type": "text/event-stream"})

    failed = b'event: error\ndata: {"status": 500, "code": "internal", "detail": "imagining failed"}\n\n'
    session_of = answering(session, stream(step), stream(step + failed)).session("m")
    for error, message in (
        (ConnectionLostError, "the stream ended early"),
        (ServerFailedError, "imagining failed"),
    ):
        steps = session_of.imagine_stream()
        assert next(steps).reward == 0.5
        with pytest.raises(error, match=message):
            next(steps)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host", "expected http://HOST:PORT"),
        ("http://", "expected http://"),
        ("grpc://host:1", "expected http"),
        ("http://host:99999", "expected http://HOST:PORT .* got 'http://host:99999'"),
        ("host:8000x", "expected http://HOST:PORT .* got 'host:8000x'"),
        ("http://[::1", r"expected http://HOST:PORT .* got 'http://\[::1'"),
        (None, "expected http://HOST:PORT .* got None"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_once(url: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlanningClient(url)


@pytest.mark.parametrize("kind", [PlanningClient, GrpcPlanningClient])
def test_a_key_that_no_header_holds_is_refused_and_never_shown(kind: Any) -> None:
    assert kind("host", api_key=" read from a file\n").connection.api_key == "read from a file"
    for key in ("schlüssel", "two\nlines"):
        with pytest.raises(ValueError, match="api_key: expected printable ASCII") as caught:
            kind("host", api_key=key)
        assert key not in str(caught.value)


def test_urls_leave_out_what_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THICK_API_KEY", "from the environment")

    def to(url: str) -> ServiceConnection:
        return PlanningClient(url).connection

    assert to("localhost").url == "http://localhost:8000"
    assert to("http://host").url == "http://host:80"
    assert to("https://host/prefix/").url == "https://host:443/prefix"
    assert to("http://[::1]:5").authority == "[::1]:5"
    assert to("http://host").api_key == "from the environment"
    assert "from the environment" not in repr(to("http://host"))
    with pytest.raises(ValueError, match="png, jpeg, webp"):
        PlanningClient(images="bmp")
    with pytest.raises(ValueError, match="msgpack or json"):
        PlanningClient(encoding="xml")


CERTIFICATES = Path(__file__).parents[1] / "service" / "tls"


class _NoModels(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"models": []}')

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_https_trusts_the_authority_that_it_is_given_and_no_other() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _NoModels)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "cert.pem", CERTIFICATES / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_address[1]}"
    try:
        with PlanningClient(url, tls=Tls(ca=CERTIFICATES / "cert.pem")) as client:
            assert client.models() == []
        with (
            PlanningClient(url, retries=Retries(attempts=1)) as client,
            pytest.raises(NotConnectedError) as caught,
        ):
            client.models()
        assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)
    finally:
        server.shutdown()
        server.server_close()


def test_grpc_on_the_http_port_is_reported(address: Address) -> None:
    with GrpcPlanningClient(address.http.replace("http", "grpc"), retries=Retries(attempts=1)) as client:
        with pytest.raises(UnexpectedAnswerError, match="that port speaks HTTP; gRPC has a port of its own"):
            client.models()


def test_http_on_the_port_of_grpc_is_reported(address: Address) -> None:
    with PlanningClient(address.grpc.replace("grpc", "http"), retries=Retries(attempts=1)) as client:
        with pytest.raises(UnexpectedAnswerError, match=r"is no HTTP .* gRPC \(8001\)"):
            client.models()


def test_https_on_a_port_of_plain_http_is_reported(address: Address) -> None:
    with PlanningClient(address.http.replace("http", "https"), retries=Retries(attempts=1)) as client:
        with pytest.raises(NotConnectedError, match="begins with http://"):
            client.models()


@pytest.mark.parametrize("kind", [PlanningClient, GrpcPlanningClient])
def test_a_host_that_nobody_knows_cannot_be_connected_to(kind: Any) -> None:
    with kind("no-such-host.invalid:9", retries=Retries(attempts=1)) as client:
        with pytest.raises(NotConnectedError, match="cannot connect"):
            client.models()


def test_certificates_are_read_for_both_transports(tmp_path: Any) -> None:
    (tmp_path / "ca.pem").write_bytes(b"authority")
    assert Tls(ca=tmp_path / "ca.pem").read() == (b"authority", None, None)
    with pytest.raises(FileNotFoundError):
        Tls(ca=tmp_path / "none.pem").context()
