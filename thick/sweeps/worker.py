"""One run of a sweep in a process of its own: train, or go on, then the commands that come after.

``python -m thick.sweeps.worker DIR`` works on what ``DIR/sweep.json`` says. Signals ask it to save and stop, however
often they come: a terminal sends them to every process of a sweep, and the sweep passes them on too.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType

from thick.configuration import build
from thick.sweeps.state import RunState, commit, read_state, write_state
from thick.training.config import TrainConfig
from thick.training.folder import CONFIG
from thick.training.interrupts import StopRequest

DONE, FAILED, STOPPED = 0, 1, 130
"""exit codes"""
_PR_SET_PDEATHSIG = 1


class Worker:
    """Works on one run until it is done, fails, or somebody asks to stop.

    Args:
        directory: of the run; ``sweep.json`` is there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        state = read_state(directory)
        if state is None:
            raise FileNotFoundError(f"{directory} holds no run of a sweep")
        self.state: RunState = state
        self.stop = StopRequest()
        self.code = FAILED
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Work; the exit code is in :attr:`code`."""
        self._note(status="running", error="")
        try:
            if self.state.config is not None and not self.state.trained and not self._train():
                return self._end("stopped", STOPPED)
            for name in self.state.pending:
                if self.stop.requested or not self._command(name):
                    return self._end("stopped", STOPPED)
        except Exception as error:  # whatever it is, other runs go on
            traceback.print_exc()
            text = str(error).strip().splitlines()
            return self._end("failed", FAILED, error=text[0] if text else type(error).__name__)
        self._end("done", DONE)

    def ask_to_stop(self) -> None:
        """Save and stop; what a command has done is lost."""
        self.stop.request()
        if self._process is not None:
            self._process.terminate()

    def _train(self) -> bool:
        """Whether training came to its end."""
        from thick.training.trainer import Trainer, resume

        assert self.state.config is not None
        config = build(TrainConfig, self.state.config)
        self._note(commit=commit())
        if (self.directory / CONFIG).is_file():
            trainer = resume(self.directory, self._extension(config), stop=self.stop)
        else:
            trainer = Trainer(config, self.directory, stop=self.stop)
        try:
            ended = trainer.run()
        finally:
            trainer.close()
        if ended:
            self._note(trained=True)
        return ended

    def _extension(self, config: TrainConfig) -> dict[str, int]:
        """What changed of the run's end."""
        from thick.training.config import load_config

        before = load_config(self.directory / CONFIG)
        return {
            name: getattr(config, name)
            for name in ("updates", "stop")
            if getattr(config, name) != getattr(before, name)
        }

    def _command(self, name: str) -> bool:
        """Whether a command came to its end.

        Raises:
            RuntimeError: it failed.
        """
        command = self.state.steps[name]
        out = (
            self.directory / "after" / name if self.state.config is not None else self.directory.parent / name
        )
        shutil.rmtree(out, ignore_errors=True)  # of a try that did not come to its end
        out.mkdir(parents=True)
        print(f"{name}: {command}", flush=True)
        self._process = subprocess.Popen(arguments(command))
        if self.stop.requested:
            self._process.terminate()
        code = self._process.wait()
        self._process = None
        if self.stop.requested:
            return False
        if code != 0:
            raise RuntimeError(f"{name}: the command ended with {code}: {command}")
        self._note(done={**self.state.done, name: command})
        return True

    def _note(self, **changes: object) -> None:
        self.state = dataclasses.replace(self.state, **changes)  # type: ignore[arg-type]
        write_state(self.directory, self.state)

    def _end(self, status: str, code: int, **changes: str) -> None:
        self._note(status=status, **changes)
        self.code = code


def arguments(command: str) -> list[str]:
    """The words of a command; ``thick`` and ``python`` are those that run the sweep."""
    words = shlex.split(command)
    if words[0] == "thick":
        return [sys.executable, "-m", "thick", *words[1:]]
    return [sys.executable, *words[1:]] if words[0] in ("python", "python3") else words


def main(argv: list[str]) -> int:
    """Work on the run in the folder that is named."""
    _end_with_parent()
    worker = Worker(Path(argv[0]))

    def handle(number: int, frame: FrameType | None) -> None:
        worker.ask_to_stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    # In a thread of its own the trainer leaves signals to this one, in which they only ever ask.
    work = threading.Thread(target=worker.run, name="run", daemon=True)
    work.start()
    while work.is_alive():
        work.join(0.2)
    return worker.code


def _end_with_parent() -> None:
    """A sweep that is killed leaves no process that goes on unseen (Linux)."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
