"""A running ``thick serve`` with tiny, randomly initialised models of real tasks, and clients of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clients.demo import free_ports, stop, tail
from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from tests.models import sizes
from thick.envs import make
from thick.export import write_entry
from thick.spaces import space_to_json

TASKS = {"doorkey": "minigrid:MiniGrid-DoorKey-5x5-v0+map", "pads": "pinpad:three"}
PLANNER = {"samples": 16, "iterations": 2, "elites": 4, "horizon": 3, "simulations": 6, "depth": 2, "kept": 2}


@dataclass(frozen=True)
class Address:
    """Where a service listens."""

    http: str
    grpc: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def serving(
    repository: Path, log: Path, *, wait: bool = True, without: str | None = None, **settings: Any
) -> Iterator[Address]:
    """A service in a process of its own.

    Args:
        wait: until it is ready.
        without: a package that it cannot import.
        settings: ``THICK_*`` variables.
    """
    http, grpc = free_ports(2)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("THICK_")}
    said = {
        "models": repository,
        "port": http,
        "grpc_port": grpc,
        "store": "memory://",
        "threads": 1,
        **settings,
    }
    environment.update({f"THICK_{name.upper()}": str(value) for name, value in said.items()})
    hidden = (
        f"import sys; sys.modules[{without!r}] = None; from thick.cli import main; sys.exit(main(['serve']))"
    )
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "thick", "serve"] if without is None else [sys.executable, "-c", hidden],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    scheme = "s" if settings.get("tls_cert") else ""
    address = Address(f"http{scheme}://127.0.0.1:{http}", f"grpc{scheme}://127.0.0.1:{grpc}", process, log)
    try:
        with PlanningClient(address.http) as client:
            until = time.monotonic() + 180
            while wait and not scheme and not client.ready():
                assert process.poll() is None and time.monotonic() < until, "the service did not start"
                time.sleep(0.05)
        yield address
    except Exception:
        print(tail(log, 60))
        raise
    finally:
        stop(process)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models: ``doorkey`` (grids, THICK, with actor and critic) and ``pads`` (images, flat RSSM)."""
    folder = tmp_path_factory.mktemp("models")
    for name, kind in (("doorkey", "thick"), ("pads", "rssm")):
        write_model(folder, name, kind)
    return folder


def write_model(folder: Path, name: str, kind: str, version: str | None = None) -> None:
    """An entry with random weights for the task of that name."""
    env = make(TASKS[name])
    model = sizes.model(env.observation_space, env.action_space, 0, kind=kind, actor_critic=kind == "thick")
    write_entry(
        folder,
        name=name,
        version=version,
        kind=kind,
        task=TASKS[name],
        observation_space=space_to_json(env.observation_space),
        action_space=space_to_json(env.action_space),
        configuration={"model": model.config, "env_options": {"max_steps": 40} if name == "pads" else {}},
        planner={
            **PLANNER,
            "low": "categorical-cem",
            "method": "hierarchical" if kind == "thick" else "flat",
        },
        provenance={"command": "random weights"},
        tensors=model.state_dict(),
    )
    env.close()


@pytest.fixture(scope="session")
def address(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A service that runs for all tests."""
    log = tmp_path_factory.mktemp("service") / "serve.log"
    with serving(
        repository, log, model_control="true", admin_keys="root", api_keys="me", public_metrics="true"
    ) as up:
        yield up


@pytest.fixture(params=["msgpack", "json", "grpc", "grpc-stream"])
def client(request: pytest.FixtureRequest, address: Address) -> Iterator[Any]:
    """A client of each kind."""
    made: Any
    if request.param.startswith("grpc"):
        made = GrpcPlanningClient(address.grpc, stream_acts=request.param == "grpc-stream", api_key="root")
    else:
        made = PlanningClient(address.http, encoding=request.param, api_key="root")
    with made:
        yield made
