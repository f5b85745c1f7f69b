"""Serving needs no torch: a service in a process that cannot import it, and the contract's own tests in another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from tests.clients.conftest import Address, serving
from tests.service.conftest import WRITTEN
from tests.service.support import observe, same
from thick.manifest import read_manifest
from thick.runtimes.onnx.export import keep_graphs, write_graphs

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ["native", "onnx"]
MODELS = ("arm", "camera", "grid")
CONTRACT = [
    "tests/service/faces/test_contract.py",
    "tests/service/faces/test_grpc.py",
    "tests/service/faces/test_picture_forms.py",
    "tests/service/sessions/test_sessions.py",
    "tests/service/sessions/test_exactly_once.py",
]


@pytest.fixture(scope="module")
def complete(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models with graphs (compared with torch in ``tests/runtimes``)."""
    folder = tmp_path_factory.mktemp("complete")
    for name in MODELS:
        entry = Path(shutil.copytree(repository / name / "1", folder / name / "1"))
        manifest = read_manifest(entry)
        keep_graphs(entry, manifest, write_graphs(entry, manifest))
    return folder


@pytest.fixture(scope="module", params=BACKENDS)
def address(
    request: pytest.FixtureRequest, complete: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Address]]:
    """A backend and where a service runs on it."""
    log = tmp_path_factory.mktemp("service") / "serve.log"
    with serving(complete, log, without="torch", backend=request.param) as up:
        yield request.param, up


def test_every_model_is_ready_and_says_what_runs_it(address: tuple[str, Address]) -> None:
    backend, up = address
    with PlanningClient(up.http) as client:
        for model in client.models():
            assert (model.state, model.reason) == ("ready", None)
            assert client.model(model.name).other["runtime"]["backend"] == backend


@pytest.mark.parametrize("transport", ["http", "grpc"])
@pytest.mark.parametrize(
    ("model", "method"),
    [("arm", "policy"), ("arm", "hierarchical"), ("grid", "policy"), ("grid", "flat"), ("grid", "hierarchical"),
     ("camera", "flat")],
)  # fmt: skip
def test_it_acts_by_every_method_and_again_from_a_fork_and_a_snapshot(
    address: tuple[str, Address], transport: str, model: str, method: str
) -> None:
    up = address[1]
    client: Any = PlanningClient(up.http) if transport == "http" else GrpcPlanningClient(up.grpc)
    with client, client.session(model, seed=5, planner={"method": method}) as session:
        for step in range(2):
            session.act(observe(model, step))
        others = session.fork(), client.restore(session.belief())
        expected = session.decide(observe(model, 2), include=["plan"])
        for other in others:
            with other:
                found = other.decide(observe(model, 2), include=["plan"])
                assert same(found.action, expected.action)
                assert same(asdict(found.plan), asdict(expected.plan))


@pytest.mark.parametrize(
    ("level", "policy"),
    [
        ("low", "plan"),
        ("low", "prior"),
        ("low", "actor"),
        ("high", "plan"),
        ("high", "prior"),
        ("high", "all"),
    ],
)
def test_it_imagines_at_both_levels(address: tuple[str, Address], level: str, policy: str) -> None:
    with PlanningClient(address[1].http) as client, client.session("grid", seed=5) as session:
        session.act(observe("grid"))
        include = ["observation", "reward", "value", "gates"]
        imagined = session.imagine(level=level, horizon=2, rollouts=2, policy=policy, include=include)
        for rollout in imagined.rollouts:
            assert rollout.return_ is not None and np.isfinite(rollout.return_)
            for step in rollout.steps:
                assert step.observation["camera"].shape == (64, 64, 3)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_contract_holds_without_torch(backend: str, complete: Path) -> None:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("THICK_", "PYTEST_"))
    }
    environment |= {WRITTEN: str(complete), "THICK_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.no_torch",
        "-p",
        "no:cacheprovider",
        *CONTRACT,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) > 100
