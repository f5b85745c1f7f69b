"""The extra `serve` as a stranger installs it: an environment of its own, no torch, that serves what is bundled."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from clients.demo import free_ports
from clients.http_client import PlanningClient

ROOT = Path(__file__).resolve().parents[1]
METHODS = {
    "doorkey6": {"hierarchical", "flat"},
    "cartpole": {"hierarchical", "flat"},
    "corridor": {"hierarchical", "flat", "policy"},
    "pixels": {"flat", "policy"},
}
"""what each bundled model acts by"""
MOST_MEMORY = {"native": 150e6, "onnx": 200e6}
"""resident, bytes; ONNX Runtime's own library is larger"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs of the environment are."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    script = ["bash", str(ROOT / "scripts" / "install.sh"), "--extras", "serve", "--venv", str(place)]
    done = subprocess.run([*script, "--no-editable", "--system", "no"], capture_output=True, text=True)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"nothing can be installed here: {done.stderr.strip().splitlines()[-1:]}")
    assert done.returncode == 0, done.stderr[-2000:]
    return place / "bin"


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of the environment, outside the checkout."""
    return subprocess.run(
        [str(program), *arguments],
        capture_output=True,
        text=True,
        cwd=program.parent,
        env=clean(),
        timeout=120,
    )


def clean() -> dict[str, str]:
    """Variables that lead to no other installation."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "THICK_"))}


@contextmanager
def served(programs: Path, *arguments: str) -> Iterator[tuple[PlanningClient, psutil.Process]]:
    """The bundled models."""
    port = free_ports(1)[0]
    process = subprocess.Popen(
        [str(programs / "thick"), "serve", "--models", str(ROOT / "checkpoints"), "--port", str(port),
         "--grpc-port", "0", "--store", "memory://", *arguments],
        cwd=programs, env=clean(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with PlanningClient(f"http://127.0.0.1:{port}") as client:
            client.wait_until_ready(120)
            yield client, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_nothing_of_torch_is_installed_and_what_needs_it_says_what_to_do(installed: Path) -> None:
    listed = run(installed / "python", "-m", "pip", "list").stdout.lower()
    assert "thick-planner" in listed and "torch" not in listed and "nvidia" not in listed
    for command in ("train", "evaluate", "export"):
        done = run(installed / "thick", command, "somewhere")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and "pip install 'thick-planner[train]'" in done.stderr
    done = run(installed / "thick", "serve", "--models", str(ROOT / "checkpoints"), "--backend", "torch")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "pip install 'thick-planner[service]'" in done.stderr


@pytest.mark.parametrize("backend", ["native", "onnx"])
def test_the_bundled_models_act_and_imagine_in_little_memory(installed: Path, backend: str) -> None:
    planner = {"samples": 16, "iterations": 1, "simulations": 4, "horizon": 4}
    with served(installed, "--backend", backend) as (client, process):
        memory = process.memory_info().rss
        for name in METHODS:
            model = client.model(name)
            assert model.other["runtime"]["backend"] == backend
            assert model.observation_space is not None
            seen = model.observation_space.sample(np.random.default_rng(0))
            with client.session(name, seed=1, planner=planner) as session:
                methods = model.methods
                assert set(methods) == METHODS[name]
                for method in methods:
                    assert session.decide(seen, planner={"method": method}).plan is not None
                for level in ("high", "low") if "hierarchical" in methods else ("low",):
                    assert session.imagine(level=level, horizon=2).rollouts
    assert memory <= MOST_MEMORY[backend], f"{memory / 1e6:.0f} MB"
