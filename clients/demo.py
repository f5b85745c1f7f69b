"""``thick demo``: starts a service, drives a bundled model through it, draws what happened."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clients.base import SyncClient
from clients.drive import drive_and_show
from clients.episodes import Task
from clients.errors import ModelsFailedError, NotConnectedError
from clients.http_client import PlanningClient
from clients.imagine import draw_future
from clients.results import Model
from thick.arguments import Parser, at_least, folder_to_write

SHOWN = "doorkey6"
"""the bundled model that is shown where none is named"""
START_S = 180.0
"""how long the service may take to load and warm up"""
STOP_S = 20.0
"""how long it may take to stop when asked"""


class DemoError(Exception):
    """The demonstration cannot go on; the message says why and where to look."""


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    made = Parser(
        prog="thick demo",
        description="Start the service with the bundled models on a free port, let a hierarchical world "
        "solve its task through it, print how often it succeeds, draw an episode and what it imagines.",
    )
    made.add_argument("--models", type=Path, default=Path("checkpoints"), metavar="DIR", help="(checkpoints)")
    made.add_argument(
        "--model", metavar="NAME", help=f"which one ({SHOWN}, else the first THICK model of MiniGrid)"
    )
    made.add_argument("--episodes", type=at_least(1), default=20, metavar="N", help="(20)")
    made.add_argument(
        "--parallel", type=at_least(1), default=10, metavar="P", help="environments driven at once (10)"
    )
    made.add_argument(
        "--seed", type=at_least(0), default=10_000, metavar="S", help="episode i has the seed S + i (10000)"
    )
    made.add_argument(
        "--out", type=folder_to_write, default=Path("demo"), metavar="DIR", help="where pictures go (demo)"
    )
    return made


def run(argv: Sequence[str]) -> int:
    """The command."""
    options = parser().parse_args(list(argv))
    if not options.models.is_dir():
        raise DemoError(f"{options.models} is not a folder: run it in the repository, or give --models")
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "serve.log"
    with service(options.models, log) as client:
        model = choose(client, options.model)
        task = Task.of(client, model.name, env_id=None, planner={})
        episode, imagined = options.out / "episode.gif", options.out / "imagined.png"
        print(f"playing {options.episodes} episodes of {task.env_id} on seeds it was never trained on")
        drive_and_show(
            task, episodes=options.episodes, seed=options.seed, parallel=options.parallel, gif=episode
        )
        asked = {"level": "high", "policy": "all", "horizon": 2}
        if model.kind != "thick":
            asked = {"level": "low", "policy": "plan", "horizon": 8, "rollouts": 3}
        draw_future(task, asked, seed=options.seed, steps=0, out=imagined)
        print(f"what it imagines: {imagined}")
    print(f"the service has stopped; its log: {log}")
    return 0


def choose(client: SyncClient, name: str | None) -> Model:
    """The model to show: the one named, else `SHOWN`, else a THICK model, of MiniGrid if there is one.

    Raises:
        DemoError: there is none, or it failed to load.
    """
    models = client.models()
    ready = [model for model in models if model.state == "ready" and model.task]
    if name is not None:
        ready = [model for model in ready if model.name == name]
    ready.sort(
        key=lambda m: (m.name != SHOWN, m.kind != "thick", not str(m.task).startswith("minigrid:"), m.name)
    )
    if ready:
        return ready[0]
    known = ", ".join(f"{m.name} ({m.state}{': ' + m.reason if m.reason else ''})" for m in models) or "none"
    raise DemoError(f"no model {name or 'that is ready'}; the service has {known}")


@contextmanager
def service(models: Path, log: Path, *, store: str = "memory://") -> Iterator[PlanningClient]:
    """A ``thick serve`` of its own on free ports, ready; stopped at the end, also after errors and Ctrl-C.

    Args:
        store: of its sessions.

    Raises:
        DemoError: it did not become ready.
    """
    http, grpc = free_ports(2)
    command = [sys.executable, "-m", "thick", "serve", "--models", str(models), "--host", "127.0.0.1"]
    command += ["--port", str(http), "--grpc-port", str(grpc)]
    # Its own settings alone: what is set for another service (keys, a store, TLS) would get in the way.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("THICK_")}
    environment["THICK_STORE"] = store
    print(f"starting the service on http://127.0.0.1:{http} with {models} (log: {log})")
    began = time.monotonic()
    with log.open("wb") as sink:
        # In a session of its own: Ctrl-C reaches this process alone, which then stops the service in order.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        with _stopping_on_signals(), PlanningClient(f"http://127.0.0.1:{http}") as client:
            _wait(client, process, log)
            print(f"ready after {time.monotonic() - began:.1f} s")
            yield client
    finally:
        stop(process)


def _wait(client: PlanningClient, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns once the service is ready.

    Raises:
        DemoError: it ended, took too long, or none of its models could be loaded.
    """
    end = time.monotonic() + START_S
    while True:
        try:
            client.wait_until_ready(0.5)
            return
        except ModelsFailedError as error:
            raise DemoError(error.detail) from error
        except NotConnectedError:
            if process.poll() is not None:
                raise DemoError(f"the service ended with status {process.returncode}:\n{tail(log)}") from None
            if time.monotonic() > end:
                raise DemoError(f"the service was not ready after {START_S:g} s:\n{tail(log)}") from None


@contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end this process in order too, so that no service stays behind."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    old = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks a service to stop, and makes it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
