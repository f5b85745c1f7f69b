"""A run that is interrupted and goes on equals one that was not, number for number, whenever it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import ONLINE, PLANNER, WALK, differences, finish, lines
from thick.configuration import merge, to_dict
from thick.training import evaluate, logs, trainer
from thick.training.acting import AgentPolicy
from thick.training.config import TrainConfig
from thick.training.interrupts import StopRequest, on_signals
from thick.training.trainer import Trainer, resume

EVALUATED = {
    "evaluation": {"every": 3, "episodes": 1, "max_steps": 2},
    "planner": {**PLANNER, "method": "flat"},
}

# Where a signal may come: what is called there, and the number of the call.
MOMENTS: dict[str, tuple[Any, str, int]] = {
    "in the prefill": ("collector", "step", 5),
    "while collecting": ("collector", "step", 19),
    "in the planner": (AgentPolicy, "__call__", 5),
    "after sampling": ("experience", "sample", 5),
    "before the low level's step": (torch.optim.Adam, "step", 13),
    "between the low and the high level": (torch.optim.Adam, "step", 14),
    "between actor and critic": (torch.optim.Adam, "step", 16),
    "while evaluating": (evaluate, "_plan", 2),
    "while a line is written": (logs.RunLog, "write", 2),
    "while a checkpoint is written": (trainer, "save_checkpoint", 2),
}


def _moments(*quick: str) -> list[Any]:
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in MOMENTS]


@pytest.fixture(scope="module")
def whole(online: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert finish(Trainer(merge(online, EVALUATED), folder))
    return folder


def _interrupt(
    monkeypatch: pytest.MonkeyPatch, run: Trainer, moment: str, action: Callable[[], None]
) -> list[int]:
    """Do something before the call that a moment names; counts the calls."""
    where, name, number = MOMENTS[moment]
    place = getattr(run, where) if isinstance(where, str) else where
    original, calls = getattr(place, name), [0]

    def called(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            action()
        return original(*given, **named)

    monkeypatch.setattr(place, name, called)
    return calls


def _go_on(config: TrainConfig, folder: Path) -> None:
    assert finish(resume(folder))


@pytest.mark.parametrize("moment", _moments("while collecting", "between the low and the high level"))
def test_a_first_signal_finishes_the_update_and_loses_nothing(
    online: TrainConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    run = Trainer(merge(online, EVALUATED), tmp_path / "run")
    with monkeypatch.context() as patch:
        calls = _interrupt(patch, run, moment, run.stop.request)
        assert not finish(run)
        assert calls[0] >= MOMENTS[moment][2]
    _go_on(run.config, tmp_path / "run")
    assert not differences(whole, tmp_path / "run")
    assert lines(whole) == lines(tmp_path / "run")


@pytest.mark.parametrize("moment", _moments("in the prefill", "after sampling"))
def test_a_run_that_is_stopped_at_once_goes_on_from_its_last_checkpoint(
    online: TrainConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def at_once() -> None:
        raise KeyboardInterrupt

    run = Trainer(merge(online, EVALUATED), tmp_path / "run")
    with monkeypatch.context() as patch:
        _interrupt(patch, run, moment, at_once)
        with pytest.raises(KeyboardInterrupt):
            finish(run)
    _go_on(run.config, tmp_path / "run")
    assert not differences(whole, tmp_path / "run")
    assert lines(whole) == lines(tmp_path / "run")


def test_an_update_that_was_left_half_done_is_never_saved(
    walk: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once() -> None:
        raise KeyboardInterrupt

    run = Trainer(walk, tmp_path / "run")
    with monkeypatch.context() as patch:
        _interrupt(patch, run, "between the low and the high level", at_once)
        with pytest.raises(KeyboardInterrupt):
            run.run()
    with pytest.raises(RuntimeError, match="left half done"):
        run.save()
    run.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_real_signal_stops_after_the_update_and_a_second_one_at_once(
    online: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    number: int,
) -> None:
    given = signal.getsignal(number)
    if number == signal.SIGHUP:  # ignored where the tests themselves run under nohup
        signal.signal(number, signal.SIG_DFL)
        request.addfinalizer(lambda: signal.signal(number, given))
    before = signal.getsignal(number)
    first = Trainer(online, tmp_path / "first")
    with monkeypatch.context() as patch:
        _interrupt(patch, first, "after sampling", lambda: os.kill(os.getpid(), number))
        assert not finish(first)
    assert first.learner.updates == 5
    second = Trainer(online, tmp_path / "second")

    def twice() -> None:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        _interrupt(patch, second, "after sampling", twice)
        with pytest.raises(KeyboardInterrupt):
            finish(second)
    assert second.learner.updates == 4
    assert signal.getsignal(number) is before


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        stop = StopRequest()
        with on_signals(stop, ""):
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_left_alone_in_other_threads() -> None:
    import threading

    def inside() -> None:
        with on_signals(StopRequest(), ""):
            handlers.append(signal.getsignal(signal.SIGINT))

    handlers: list[Any] = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert handlers == [before]


PROGRAM = """
import sys
from thick.envs import register
from thick.cli import main
register("walk", "tests.training.walk")
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_the_program_saves_and_says_so_when_it_is_asked_to_end(tmp_path: Path) -> None:
    import yaml

    config = merge(TrainConfig(), {**WALK, "data": {**WALK["data"], **ONLINE}, "updates": 100_000})
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(to_dict(config)))
    words = ["train", "--preset", str(tmp_path / "preset.yaml"), "--run", str(tmp_path / "run")]
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while program.poll() is None and not (metrics.is_file() and '"update": 2' in metrics.read_text()):
        time.sleep(0.05)
    program.send_signal(signal.SIGTERM)
    _, said = program.communicate(timeout=120)
    assert program.returncode == 130, said
    assert "stopping after this update" in said
    assert f"thick train --run {tmp_path / 'run'} --resume" in said
    run = resume(tmp_path / "run")
    done = run.learner.updates
    finish(run, until=done + 2)
    assert finish(Trainer(config, tmp_path / "whole"), until=done + 2)
    assert not differences(tmp_path / "whole", tmp_path / "run")
