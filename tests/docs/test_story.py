"""The story of docs/environments.md, from one's own environment to `thick drive`, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from clients.demo import free_ports
from tests.docs.blocks import PYTHON, ROOT, SHELL, blocks

PAGE = ROOT / "docs" / "environments.md"
SHORTER = {
    "--updates 200": "--updates 2",
    "--data.prefill 2000": "--data.prefill 200 --data.env_steps_per_update 0 "
    "--planner '{samples: 8, iterations: 1, horizon: 3, simulations: 3}'",
    "--episodes 5 --max-steps 50": "--episodes 1 --max-steps 3",
}
"""what one of the tests says instead, to fail early: fewer of everything"""
READY_S = 120

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    "shorter",
    [
        pytest.param(SHORTER, id="shorter"),
        pytest.param({}, id="to the letter", marks=pytest.mark.soak),
    ],
)
def test_an_environment_of_one_s_own_is_trained_exported_served_and_driven(
    tmp_path: Path, shorter: dict[str, str]
) -> None:
    story = [block for block in blocks(PAGE) if block.marker == ("run by", "tests/docs/test_story.py")]
    code = next(block.text for block in story if block.language == PYTHON)
    make, serve, drive = (block.text for block in story if block.language == SHELL)
    (tmp_path / "own_env.py").write_text(code)
    for said, instead in shorter.items():
        assert said in make + drive
        make, drive = make.replace(said, instead), drive.replace(said, instead)
    http, grpc = free_ports(2)
    _run(make, tmp_path)
    with (tmp_path / "serve.log").open("wb") as log:
        flags = f" --host 127.0.0.1 --port {http} --grpc-port {grpc} --store memory://"
        server = subprocess.Popen(
            ["bash", "-c", f"exec {serve.strip()}{flags}"], cwd=tmp_path, env=_environment(tmp_path),
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{http}/health/ready", server, tmp_path / "serve.log")
        drive = re.sub(
            r"^thick drive\b.*$", rf"\g<0> --url http://127.0.0.1:{http}", drive, flags=re.MULTILINE
        )
        said = _run(drive, tmp_path)
        assert re.search(r"corridor 1 in own_env.py:Corridor, .*: \d episodes?", said)
        (tmp_path / "elsewhere").mkdir()
        lost = subprocess.run(
            ["bash", "-c", drive], cwd=tmp_path / "elsewhere", env=_environment(tmp_path),
            capture_output=True, text=True,
        )  # fmt: skip
        assert lost.returncode != 0
        assert "was trained in own_env.py:Corridor" in lost.stderr and "give --env" in lost.stderr
        assert lost.stderr.count("\n") == 1
    finally:
        server.terminate()
        server.wait(30)


def _environment(folder: Path) -> dict[str, str]:
    """With `thick` on the path, as an installation has it."""
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    (programs / "thick").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m thick "$@"\n')
    (programs / "thick").chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("THICK_")}
    return kept | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def _run(text: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=_environment(folder),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"the service was not ready after {READY_S} s:\n{log.read_text()}")
