"""Who may ask, over which wire, and what never appears anywhere; with a certificate made for the test."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from clients.connection import Tls
from clients.errors import AccessError, ClientError
from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from service.protocol import media
from service.settings import Settings, SettingsError
from tests.faults.support import ONCE, Server

CLIENT, HASHED, ADMIN, WRONG = "key-of-a-client", "key-that-is-hashed", "key-of-an-admin", "key-of-a-stranger"
SECRETS = (CLIENT, HASHED, ADMIN, WRONG)


@dataclass(frozen=True)
class Guarded:
    """A server that wants keys and speaks TLS alone."""

    server: Server
    tls: Tls

    def ask(self, verb: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        """The response to one request."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        verify = self.tls.context()
        with httpx.Client(base_url=self.server.url, verify=verify, trust_env=False, timeout=60) as http:
            return http.request(verb, path, **{"headers": headers, **options})

    def client(self, transport: str, **options: Any) -> Any:
        """A client."""
        options = {"tls": self.tls, "retries": ONCE, **options}
        if transport == "http":
            return PlanningClient(self.server.url, **options)
        return GrpcPlanningClient(self.server.grpc_url, **options)


@pytest.fixture(scope="module")
def guarded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    certificate, key = self_signed(folder)
    tls = Tls(ca=certificate)
    server = Server(
        tiny,
        folder,
        tls_cert=certificate,
        tls_key=key,
        api_keys=f"{CLIENT}, sha256:{hashlib.sha256(HASHED.encode()).hexdigest()}",
        admin_keys=ADMIN,
        model_control="true",
        log_level="debug",
    )
    try:
        server.start(tls=tls)
        yield Guarded(server, tls)
    finally:
        server.__exit__()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine and its private key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


# -- keys ----------------------------------------------------------------------------------------------------

CLOSED = (
    ("GET", "/v1/models"),
    ("GET", "/v1/sessions"),
    ("POST", "/v1/sessions"),
    ("POST", "/v1/act"),
    ("POST", "/v1/imagine"),
    ("GET", "/v1/sessions/none/belief"),
    ("DELETE", "/v1/sessions/none"),
    ("POST", "/v1/models/arm/load"),
    ("GET", "/v1/stats"),
    ("GET", "/metrics"),
    ("GET", "/v2/models/arm/ready"),
    ("GET", "/nothing/here"),
)


def test_nothing_but_health_and_the_description_is_answered_without_a_key(guarded: Guarded) -> None:
    for verb, path in CLOSED:
        missing = guarded.ask(verb, path)
        assert missing.status_code == 401 and missing.json()["code"] == "unauthenticated", (verb, path)
        assert missing.headers["www-authenticate"].startswith("Bearer")
        wrong = guarded.ask(verb, path, WRONG)
        assert wrong.status_code == 403 and wrong.json()["code"] == "forbidden", (verb, path)
        assert missing.headers["content-type"] == wrong.headers["content-type"] == media.PROBLEM_JSON
    for path in ("/health/live", "/health/ready", "/v2/health/ready", "/openapi.json"):
        assert guarded.ask("GET", path).status_code == 200
    for scheme in ("Basic dTpw", "Bearer", f"Token {CLIENT}", f"bearer{CLIENT}"):
        assert guarded.ask("GET", "/v1/models", headers={"authorization": scheme}).status_code == 401


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_each_key_allows_what_its_role_does(guarded: Guarded, transport: str) -> None:
    for key in (CLIENT, HASHED, ADMIN):
        with guarded.client(transport, api_key=key) as client, client.session("arm") as session:
            assert np.isfinite(session.act(np.zeros(7, np.float32), planner={"method": "policy"})).all()
    for key, status in ((None, 401), (WRONG, 403), ("sha256:" + "0" * 64, 403)):
        with guarded.client(transport, api_key=key) as client:
            with pytest.raises(AccessError) as refused:
                client.models()
            assert refused.value.status == status
    with guarded.client(transport, api_key=CLIENT) as client:
        for change in (client.load, client.unload):
            with pytest.raises(AccessError) as refused:
                change("arm")
            assert refused.value.status == 403
    with guarded.client(transport, api_key=ADMIN) as client:
        client.unload("arm")
        assert [model.state for model in client.models()] == ["unloaded"]
        client.load("arm")
        assert [model.state for model in client.models()] == ["ready"]


# -- TLS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_client_that_does_not_know_the_certificate_sends_no_key(guarded: Guarded, transport: str) -> None:
    with guarded.client(transport, tls=Tls(), api_key=CLIENT, timeout_s=20) as client:
        assert not client.ready()
        with pytest.raises(ClientError, match=r"(?i)certificate|handshake|ssl"):
            client.models()


def test_neither_port_answers_in_the_clear(guarded: Guarded) -> None:
    with pytest.raises(httpx.TransportError), httpx.Client(trust_env=False) as http:
        http.get(guarded.server.url.replace("https", "http") + "/health/live")
    with GrpcPlanningClient(guarded.server.grpc_url.replace("grpcs", "grpc"), retries=ONCE) as client:
        assert not client.live()


def test_only_current_versions_of_tls_are_spoken(guarded: Guarded) -> None:
    for port in (guarded.server.port, guarded.server.grpc_port):
        agreed = ssl.create_default_context(cafile=str(guarded.tls.ca))
        agreed.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(("127.0.0.1", port)) as plain:
            with agreed.wrap_socket(plain, server_hostname="localhost") as secure:
                assert secure.version() in ("TLSv1.2", "TLSv1.3")


# -- strangers -----------------------------------------------------------------------------------------------


def thick_serve(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``thick serve``, until it ends."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("THICK_")}
    return subprocess.run(
        [sys.executable, "-m", "thick", "serve", *arguments],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_server_refuses_to_be_reached_by_strangers(tiny: Path) -> None:
    ended = thick_serve("--models", str(tiny), "--host", "0.0.0.0", "--port", "0", "--grpc-port", "0")
    assert ended.returncode == 2
    assert "--api-keys" in ended.stderr and "--allow-anonymous" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("host", "more", "allowed"),
    [
        ("127.0.0.1", {}, True),
        ("127.8.8.8", {}, True),
        ("::1", {}, True),
        ("[::1]", {}, True),
        ("localhost", {}, True),
        ("0.0.0.0", {}, False),
        ("::", {}, False),
        ("192.168.1.5", {}, False),
        ("service.example", {}, False),
        ("127.0.0.1.example", {}, False),
        ("0.0.0.0", {"api_keys": ("k",)}, True),
        ("0.0.0.0", {"admin_keys": ("k",)}, True),
        ("0.0.0.0", {"allow_anonymous": True}, True),
    ],
)
def test_beyond_loopback_the_server_wants_keys_or_explicit_consent(
    host: str, more: dict[str, Any], allowed: bool
) -> None:
    settings = Settings(host=host, **more)
    if allowed:
        settings.check_exposure()
        return
    with pytest.raises(SettingsError, match=re.escape(host)):
        settings.check_exposure()


# -- secrets -------------------------------------------------------------------------------------------------


def test_no_key_is_ever_written_down(guarded: Guarded) -> None:
    told = ""
    for key in SECRETS:
        for verb, path in (*CLOSED, ("GET", f"/v1/sessions/none?api_key={key}"), ("BREW", "/v1/models")):
            answer = guarded.ask(verb, path, key)
            told += answer.text + str(answer.headers)
        # Where it does not belong, but people put it.
        guarded.ask("GET", f"/v1/models?key={key}", headers={"x-api-key": key, "authorization": key})
        guarded.ask("POST", "/v1/act", ADMIN, json={"model": "arm", "observation": 1, "api_key": key})
        with guarded.client("grpc", api_key=key) as client:
            try:
                client.models()
            except AccessError as error:
                told += str(error)
    told += guarded.ask("GET", "/v1/stats", ADMIN).text + guarded.ask("GET", "/metrics", ADMIN).text
    told += guarded.ask("GET", "/openapi.json").text
    assert not [key for key in SECRETS if key in told]
    logged = guarded.server.logged
    assert '"path": "/v1/models"' in logged
    assert not [key for key in SECRETS if key in logged]


@pytest.mark.parametrize(
    "store",
    [
        "redis://:hunter2@127.0.0.1:1/0",
        pytest.param("postgres://me:hunter2@db/thick", marks=pytest.mark.slow),
    ],
)
def test_the_password_of_a_store_that_cannot_be_used_is_not_shown(tiny: Path, store: str) -> None:
    ports = ("--port", "0", "--grpc-port", "0")
    ended = thick_serve("--models", str(tiny), *ports, THICK_STORE=store)
    assert ended.returncode == 2 and "--store" in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout and "Traceback" not in ended.stderr
