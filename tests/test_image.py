"""The container: what its recipe copies and sets exists, and its health check tells dead from alive."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECIPE = (ROOT / "Dockerfile").read_text()


def _copied() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", RECIPE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_what_the_image_copies_is_in_the_repository_and_reaches_the_build() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in _copied():
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in kept), f"{source} is ignored by .dockerignore"


def test_the_image_installs_with_the_script_that_make_and_ci_use() -> None:
    assert "scripts/install.sh" in RECIPE
    assert "scripts/install.sh" in (ROOT / "Makefile").read_text()
    assert "make --no-print-directory install" in (ROOT / ".ci" / "run").read_text()


def test_what_the_image_sets_are_settings_of_the_service() -> None:
    from service.settings import Settings

    names = set(re.findall(r"THICK_([A-Z_]+)=", RECIPE.partition("ENV PATH")[2]))
    assert {"MODELS", "HOST", "PORT", "GRPC_PORT"} <= names
    assert {name.lower() for name in names} <= set(Settings.model_fields)


PLACES = (ROOT / "README.md", ROOT / "docs" / "installation.md", ROOT / "Dockerfile")


def _docker_runs(place: Path) -> list[list[str]]:
    """The words of each `docker run` of a page."""
    text = place.read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^(?:#| ) +(docker run .*)$", text, re.MULTILINE)]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_every_docker_line_has_what_the_service_asks_for(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.flags import from_arguments

    stage = RECIPE.rpartition("\nFROM ")[2]
    inside = dict(re.findall(r"(THICK_[A-Z_]+)=(\S+)", stage))
    volumes = set(re.findall(r'"(/[\w/]+)"', re.search(r"^VOLUME (.*)$", stage, re.MULTILINE)[1]))  # type: ignore[index]
    runs = _docker_runs(place)
    assert runs
    for words in runs:
        after = list(itertools.pairwise(words))
        given = dict(value.split("=", 1) for flag, value in after if flag == "-e")
        for name in [name for name in os.environ if name.startswith("THICK_")]:
            monkeypatch.delenv(name)
        for name, value in {**inside, **given}.items():
            monkeypatch.setenv(name, value)
        settings = from_arguments([])
        settings.check_exposure()  # refuses to listen beyond loopback without a key
        assert {value.split(":")[1] for flag, value in after if flag == "-v"} <= volumes
        published = {int(value.split(":")[1]) for flag, value in after if flag == "-p"}
        assert settings.port in published <= {settings.port, settings.grpc_port}
        assert words[-1] == "thick"  # as `docker build -t` of the same page calls it
        assert re.search(r"docker build (.* )?-t thick \.", place.read_text())


@pytest.mark.parametrize("place", PLACES[1:], ids=lambda place: place.name)
def test_every_build_argument_that_is_shown_is_one_of_the_recipe(place: Path) -> None:
    shown = re.findall(r"--build-arg ([A-Z_]+)=([\w,]+)", place.read_text())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"DEVICE", "EXTRAS"} <= {name for name, _ in shown}
    assert {name for name, _ in shown} <= set(re.findall(r"^ARG ([A-Z_]+)", RECIPE, re.MULTILINE))
    assert {extra for name, value in shown if name == "EXTRAS" for extra in value.split(",")} <= set(extras)


def test_the_image_runs_as_an_ordinary_user_with_the_models_as_a_volume() -> None:
    assert re.search(r"^USER thick$", RECIPE, re.MULTILINE)
    assert re.search(r'^VOLUME \["/models"', RECIPE, re.MULTILINE)


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/live" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""


def _check(port: int) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "healthcheck.py"
    environment = {
        "THICK_PORT": str(port),
        "PATH": "",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "x y",
    }
    return subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=30
    )


def test_the_health_check_distinguishes_a_live_service_from_a_dead_one() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Health)
    port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        assert _check(port).returncode == 0
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    dead = _check(port)
    assert dead.returncode == 1
    assert "/health/live" in dead.stderr


@pytest.mark.parametrize("argument", ["--extra", "--device=tpu"])
def test_the_installer_refuses_what_it_does_not_know(argument: str) -> None:
    name, _, value = argument.partition("=")
    command = ["bash", str(ROOT / "scripts" / "install.sh"), name, *([value] if value else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert name in done.stderr
