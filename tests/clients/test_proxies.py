"""Proxies as people name them in the environment: used, passed by, or refused with the variable's name."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clients import AsyncPlanningClient, GrpcPlanningClient, PlanningClient
from clients.errors import ClientError, ProxyError, UnexpectedAnswerError
from clients.proxies import bypasses, is_loopback, proxy_for
from clients.retries import Retries
from tests.clients.conftest import Address
from thick.cli import main

ONCE = Retries(attempts=1)
KINDS = [
    (PlanningClient, "http"),
    (PlanningClient, "https"),
    (AsyncPlanningClient, "http"),
    (GrpcPlanningClient, "grpc"),
    (GrpcPlanningClient, "grpcs"),
]
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy")


@pytest.fixture(autouse=True)
def _no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def found(url: str, **variables: str) -> str | None:
    """The proxy for ``scheme://host:port`` with these variables and no others."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    proxy = proxy_for(scheme, host.strip("[]"), int(port), environment=variables)
    return proxy.url if proxy else None


# ---- who is asked through which


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("http://robot:80", {}, None),
        ("http://robot:80", {"http_proxy": "http://p:3128"}, "http://p:3128"),
        ("http://robot:80", {"HTTP_PROXY": "p:3128"}, "http://p:3128"),
        ("http://robot:80", {"HTTP_PROXY": " http://p:3128/ "}, "http://p:3128"),
        ("http://robot:80", {"http_proxy": "http://low:1", "HTTP_PROXY": "http://up:1"}, "http://low:1"),
        ("http://robot:80", {"http_proxy": "", "HTTP_PROXY": "http://up:1"}, None),
        ("http://robot:80", {"https_proxy": "http://p:1"}, None),
        ("https://robot:443", {"https_proxy": "http://p:1", "http_proxy": "http://q:1"}, "http://p:1"),
        ("https://robot:443", {"ALL_PROXY": "HTTP://p:1"}, "http://p:1"),
        ("http://robot:80", {"all_proxy": "http://p:1", "http_proxy": "http://q:1"}, "http://q:1"),
        ("http://robot:80", {"HTTP_PROXY": "http://header:1", "REQUEST_METHOD": "GET"}, None),
        ("http://robot:80", {"http_proxy": "http://[fd00::1]:3128"}, "http://[fd00::1]:3128"),
        ("http://robot:80", {"http_proxy": "http://me:secret@p:1"}, "http://me:secret@p:1"),
        ("grpc://robot:8001", {"grpc_proxy": "http://g:1", "https_proxy": "http://p:1"}, "http://g:1"),
        ("grpc://robot:8001", {"HTTP_PROXY": "http://q:1"}, "http://q:1"),
        ("grpcs://robot:8001", {"https_proxy": "http://p:1", "http_proxy": "http://q:1"}, "http://p:1"),
        ("grpc://robot:8001", {"http_proxy": "http://q:1", "no_grpc_proxy": "robot"}, None),
        ("grpc://robot:8001", {"http_proxy": "http://q:1", "no_grpc_proxy": "x", "no_proxy": "robot"}, "http://q:1"),
    ],
)  # fmt: skip
def test_the_variables_are_read_as_other_programs_read_them(
    url: str, variables: dict[str, str], proxy: str | None
) -> None:
    assert found(url, **variables) == proxy


@pytest.mark.parametrize(
    ("entries", "host", "passes"),
    [
        ("robot", "robot", True),
        ("ROBOT", "robot", True),
        ("robot", "Robot.", True),
        ("robot", "xrobot", False),
        ("example.org", "a.b.example.org", True),
        (".example.org", "a.example.org", True),
        (".example.org", "example.org", True),
        ("*.example.org", "a.example.org", True),
        ("example.org", "badexample.org", False),
        ("example.org.", "a.example.org", True),
        ("*", "robot", True),
        ("10.*", "10.1.2.3", True),
        ("robot-*", "robot-7", True),
        ("  , ,, robot ,", "robot", True),
        ("a b\trobot", "robot", True),
        ("a;robot", "robot", True),
        ("", "robot", False),
        (" , ", "robot", False),
        ("robot:8000", "robot", True),
        ("robot:8001", "robot", False),
        ("robot:*", "robot", True),
        ("http://robot", "robot", True),
        ("https://robot", "robot", False),
        ("all://robot:8000", "robot", True),
        ("http://robot/", "robot", True),
        ("robot/path", "robot", True),
        ("10.0.0.7", "10.0.0.7", True),
        ("10.0.0.7:8000", "10.0.0.7", True),
        ("10.0.0.7:1", "10.0.0.7", False),
        ("10.0.0.0/8", "10.250.0.7", True),
        ("10.0.0.7/8", "10.250.0.7", True),
        ("10.0.0.0/8", "11.0.0.7", False),
        ("10.0.0.0/8", "robot", False),
        ("[fd00::1]", "fd00::1", True),
        ("[fd00::1]:8000", "fd00:0::1", True),
        ("[fd00::1]:8001", "fd00::1", False),
        ("fd00::1", "fd00::1", True),
        ("fd00::/8", "fd12::3", True),
        ("[fd00::]/8", "fd12::3", True),
        ("fd00::/8", "fe80::1", False),
        ("localhost,[::1],.example.org", "a.example.org", True),
        # Entries that name nothing: other programs' mistakes, which must not end this one.
        ("[::1", "robot", False),
        ("10.0.0.0/99", "10.0.0.7", False),
        ("fd00::/999,robot", "robot", True),
        ("://,:,[],[]:1,%,*:,robot", "robot", True),
        ("::/", "robot", False),
    ],
)  # fmt: skip
def test_exceptions_in_every_form_that_people_write(entries: str, host: str, passes: bool) -> None:
    assert bypasses(entries, "http", host, 8000) is passes


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "localhost.", "api.localhost", "127.0.0.1", "127.8.9.1", "127.1", "0x7f.1", "::1",
     "0.0.0.0", "::", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1", "ip6-localhost", "ip6-loopback"],
)  # fmt: skip
def test_this_machine_is_never_asked_through_a_proxy(host: str) -> None:
    assert is_loopback(host)
    everything = {name: "http://p:1" for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")}
    for scheme in ("http", "https", "grpc", "grpcs"):
        assert proxy_for(scheme, host, 8000, environment=everything) is None
        assert proxy_for(scheme, host, 8000, environment={"ALL_PROXY": "nonsense://"}) is None


@pytest.mark.parametrize(
    "host", ["robot", "10.0.0.1", "fd00::1", "localhost.example.org", "128.0.0.1", "12345x"]
)
def test_other_machines_are(host: str) -> None:
    assert not is_loopback(host)
    assert proxy_for("http", host, 8000, environment={"http_proxy": "http://p:1"}) is not None


# ---- what cannot be a proxy


NONSENSE = [
    "http://", "://", "::::", "http://[bad", "http://p:port", "http://p:0", "http://:3128", "http://p q:1", "http://-p:1",
    "http://p:99999", "ftp://p:21", "socks4://p:1", "'http://p:1'", "http://a..b:1", "http://me:se/cret@p:1",
    "http://me:x@x#cret@p:1", "http://me:12/cret@p:1", "http://me:x?cret@p:1",
]  # fmt: skip


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize(("kind", "scheme"), KINDS)
def test_a_proxy_that_cannot_be_one_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, kind: Any, scheme: str, value: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(ProxyError, match="ALL_PROXY=") as caught:
        kind(f"{scheme}://robot.example.org:8000")
    assert "NO_PROXY" in str(caught.value) and f"{scheme}://robot.example.org:8000" in str(caught.value)
    assert "cret" not in str(caught.value)
    kind(f"{scheme}://127.0.0.1:8000")  # is no business of the proxy


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
def test_socks_is_an_error_that_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, kind: Any, scheme: str
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://p:1080")
    reason = "gRPC goes through proxies of kind http" if scheme.startswith("grpc") else "pip install socksio"
    with pytest.raises(ProxyError, match=f"all_proxy='socks5://p:1080': .*{reason}"):
        kind(f"{scheme}://robot:8000")
    monkeypatch.setenv("no_proxy", "robot")
    kind(f"{scheme}://robot:8000")


@pytest.mark.parametrize(
    "exceptions", ["localhost,[::1]", "fd00::/8", "[fd00::]/8,*.local:80", "[::1", " , "]
)
def test_exceptions_that_httpx_does_not_understand_do_not_end_the_client(
    monkeypatch: pytest.MonkeyPatch, address: Address, exceptions: str
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, exceptions)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with PlanningClient(address.http, api_key="me") as client:
        assert client.models()
    with GrpcPlanningClient(address.grpc, api_key="me") as grpc_client:
        assert grpc_client.models()
    PlanningClient("http://robot.example.org").close()


def test_a_command_says_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://p:21")
    assert main(["drive", "--model", "m", "--url", "http://robot:8000"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("thick drive: ") and "HTTP_PROXY='ftp://p:21'" in said and said.count("\n") == 1


# ---- through real ones


@contextmanager
def proxy(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that says the same to everybody; its address, and what it was asked."""
    asked = list[bytes]()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return  # closed
            with near:
                asked.append(near.recv(1 << 16))
                near.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://me:secret@127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.close()


REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
MODELS = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{"models": []}'


def test_a_request_goes_through_the_proxy_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy(MODELS) as (url, asked):
        monkeypatch.setenv("http_proxy", url)
        with PlanningClient("http://robot.example.org:8000", retries=ONCE) as client:
            assert client.models() == []
        assert asked[0].startswith(b"GET http://robot.example.org:8000/v1/models")
        assert b"Proxy-Authorization: Basic" in asked[0]


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
def test_a_proxy_that_refuses_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, kind: Any, scheme: str
) -> None:
    with proxy(REFUSED) as (url, asked):
        monkeypatch.setenv("HTTPS_PROXY", url)
        monkeypatch.setenv("HTTP_PROXY", url)
        error = _failure(kind(f"{scheme}://robot.example.org:8000", retries=ONCE))
        assert asked
    assert isinstance(error, UnexpectedAnswerError if scheme == "http" else ProxyError)
    variable = "HTTP_PROXY" if scheme == "http" else "HTTPS_PROXY"
    assert f"through the proxy http://…@127.0.0.1:{url.rpartition(':')[2]} (variable {variable})" in str(
        error
    )
    assert "407" in str(error) and "secret" not in str(error)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "http://no-such-proxy.invalid:9"])
@pytest.mark.parametrize(("kind", "scheme"), KINDS)
def test_a_proxy_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: Any, scheme: str, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    error = _failure(kind(f"{scheme}://robot.example.org:8000", retries=ONCE))
    assert isinstance(error, ProxyError)
    assert f"through the proxy {proxy} (variable ALL_PROXY)" in str(error) and "NO_PROXY" in str(error)


def test_a_robot_s_own_client_passes_the_proxy_by_as_the_page_says(
    monkeypatch: pytest.MonkeyPatch, address: Address
) -> None:
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    url = address.http.replace("http", "ws") + "/openpi?model=doorkey"
    policy = WebsocketClientPolicy(url, api_key="me")
    assert policy.get_server_metadata()["model"] == "doorkey"
    policy._ws.close()


def _failure(client: Any) -> ClientError:
    """How asking for the models fails."""
    with pytest.raises(ClientError) as caught:
        if isinstance(client, AsyncPlanningClient):
            asyncio.run(client.models())
        else:
            with client:
                client.models()
    return caught.value
