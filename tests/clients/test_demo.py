"""``thick demo``: a service of its own that never stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from clients.demo import DemoError, _wait, choose, free_ports, service
from clients.http_client import PlanningClient
from clients.results import Model
from thick.cli import main


def servers() -> set[int]:
    """Processes that this one started and that serve."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "serve" in child.cmdline()
    }


@pytest.mark.slow
def test_the_service_is_ready_inside_and_a_termination_stops_it_in_order(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THICK_API_KEYS", "for another service")
    monkeypatch.setenv("THICK_STORE", "redis://nowhere:1/0")
    before = servers()
    with pytest.raises(KeyboardInterrupt):
        with service(repository, tmp_path / "serve.log") as client:
            assert client.ready() and client.models(), "settings of other services must not reach it"
            assert len(servers() - before) == 1
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
            for _ in range(600):  # a signal may take its time on a busy machine
                time.sleep(0.05)
    assert servers() == before
    assert (tmp_path / "serve.log").stat().st_size > 0


@pytest.mark.slow
def test_a_service_that_does_not_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="ended with status"):
        with service(tmp_path / "nothing", tmp_path / "serve.log"):
            raise AssertionError("it cannot be ready")


def test_a_service_without_a_model_that_loads_ends_the_demonstration_with_the_reason() -> None:
    answers = iter([httpx.Response(503), httpx.Response(503)])
    failed = {"name": "door", "version": "1", "kind": "thick", "state": "failed", "reason": "damaged weights"}
    listed = httpx.Response(200, json={"models": [failed]})
    client = PlanningClient("http://made.up")
    client._http = httpx.Client(
        transport=httpx.MockTransport(lambda request: next(answers, listed)), base_url="http://made.up"
    )
    with pytest.raises(DemoError, match="door version 1 failed: damaged weights"):
        _wait(client, None, Path("no.log"))  # type: ignore[arg-type]


def test_the_demonstration_plays_draws_and_names_what_it_wrote(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = servers()
    arguments = [
        "--models",
        str(repository),
        "--model",
        "pads",
        "--episodes",
        "2",
        "--out",
        str(tmp_path / "demo"),
    ]
    assert main(["demo", *arguments]) == 0
    said = capsys.readouterr().out
    for name in ("episode.gif", "imagined.png"):
        assert f"demo/{name}" in said
        with Image.open(tmp_path / "demo" / name) as image:
            assert image.width > 300
    assert "success" in said and "2 episodes" in said
    assert servers() == before


def test_the_demonstration_without_models_says_where_to_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--models", str(tmp_path / "none")]) == 2
    assert "give --models" in capsys.readouterr().err


class _Listed:
    def __init__(self, *models: Model) -> None:
        self._models = list(models)

    def models(self) -> list[Model]:
        return self._models


def test_a_thick_model_of_minigrid_is_shown_first() -> None:
    cart = Model("cart", "1", "thick", "ready", task="dm_control:cartpole-swingup")
    flat = Model("a-flat-one", "1", "rssm", "ready", task="minigrid:MiniGrid-Empty-5x5-v0")
    door = Model("doorkey", "1", "thick", "ready", task="minigrid:MiniGrid-DoorKey-8x8-v0")
    broken = Model(
        "broken", "1", "thick", "failed", task="minigrid:MiniGrid-DoorKey-8x8-v0", reason="bad weights"
    )
    listed = _Listed(broken, cart, flat, door)
    assert choose(listed, None) is door  # type: ignore[arg-type]
    assert choose(listed, "cart") is cart  # type: ignore[arg-type]
    shown = Model("doorkey6", "1", "thick", "ready", task="minigrid:MiniGrid-DoorKey-6x6-v0+map")
    assert choose(_Listed(door, shown, cart), None) is shown  # type: ignore[arg-type]
    with pytest.raises(DemoError, match=r"no model broken; .*broken \(failed: bad weights\)"):
        choose(listed, "broken")  # type: ignore[arg-type]


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5


@pytest.mark.slow
def test_ctrl_c_leaves_no_service_behind(repository: Path, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "thick", "demo", "--models", str(repository), "--model", "pads",
         "--episodes", "200", "--out", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        # Shells let what they start in the background ignore it, and so would everything started from there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert program.stdout is not None
    for line in program.stdout:
        if line.startswith("playing"):
            break
    served = [child.pid for child in psutil.Process(program.pid).children(recursive=True)]
    assert served
    program.send_signal(signal.SIGINT)
    assert program.wait(60) == 130
    assert not any(psutil.pid_exists(pid) for pid in served)
