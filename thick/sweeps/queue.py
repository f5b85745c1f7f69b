"""The queue of a sweep: starts runs, shows how far they are, passes on the wish to stop, counts what became of them."""

from __future__ import annotations

import json
import time
from collections import Counter
from itertools import chain
from pathlib import Path

from thick.files import FolderInUseError, FolderLock
from thick.progress import Screen, Task
from thick.sweeps.definition import Run, SweepRuns
from thick.sweeps.pools import Pool
from thick.sweeps.results import gather
from thick.sweeps.state import LOG, RunState, read_state, wanted_state, write_state
from thick.training.interrupts import StopRequest, on_signals

_LOOK_S = 0.2
_LINES_EVERY_S = 60.0


class Queue:
    """Works through a sweep.

    Args:
        plan: the sweep.
        pool: where.
        screen: where progress is shown.
    """

    def __init__(self, plan: SweepRuns, pool: Pool, screen: Screen) -> None:
        self._plan, self._pool, self._screen = plan, pool, screen
        self._stop = StopRequest()
        self._bars: dict[str, Task] = {}
        self.counts: Counter[str] = Counter()
        """runs by what became of them: skipped, done, failed, stopped"""

    def run(self) -> Counter[str]:
        """Work until nothing is left, or somebody asks to stop.

        Raises:
            ValueError: a folder holds a run of another configuration; nothing was started.
            thick.files.FolderInUseError: another process works on this sweep.
            KeyboardInterrupt: the second signal.
        """
        lock = FolderLock(self._plan.folder)
        try:
            stages = [[(run, wanted_state(run)) for run in stage] for stage in self._plan.stages]
            with on_signals(self._stop, "stopping: every run saves what it has; once more ends them at once"):
                for stage in stages:
                    if self.counts["failed"] or self._stop.requested:
                        break
                    self.counts.clear()
                    self._work(stage)
        except BaseException:
            self._pool.kill()
            raise
        finally:
            lock.release()
        return self.counts

    def _work(self, jobs: list[tuple[Run, RunState]]) -> None:
        left = []
        for run, state in jobs:
            run.directory.mkdir(parents=True, exist_ok=True)
            if state.finished:
                self.counts["skipped"] += 1
                if state.status != "done":
                    write_state(run.directory, RunState(**{**vars(state), "status": "done"}))
            else:
                left.append((run, state))
        if self.counts["skipped"]:
            self._screen.say(f"{self.counts['skipped']} of {len(jobs)} are done already")
        running: dict[Path, Run] = {}
        passed_on, said = False, time.monotonic()
        with self._screen.task(self._plan.sweep.name or self._plan.file.stem, len(jobs)) as bar:
            while running or (left and not self._stop.requested):
                while left and not self._stop.requested and self._pool.free():
                    run, state = left.pop(0)
                    write_state(run.directory, RunState(**{**vars(state), "status": "waiting", "error": ""}))
                    self._pool.start(run.directory, state.threads)
                    running[run.directory] = run
                    self._say(f"{run.name}: {'goes on' if state.commit else 'starts'}")
                if self._stop.requested and not passed_on:
                    self._pool.ask_to_stop()
                    passed_on = True
                time.sleep(_LOOK_S)
                for directory, code in self._pool.ended().items():
                    self._ended(running.pop(directory), code)
                if self._screen.bars is not None:
                    bar(self._finished())
                self._show(running, lines=time.monotonic() - said > _LINES_EVERY_S)
                if time.monotonic() - said > _LINES_EVERY_S:
                    said = time.monotonic()
        if left:
            self.counts["stopped"] += len(left)

    def _ended(self, run: Run, code: int) -> None:
        bar = self._bars.pop(run.name, None)
        if bar is not None:
            bar.__exit__(None, None, None)
        state = read_state(run.directory)
        assert state is not None
        if code == 0 and state.status == "done":
            self.counts["done"] += 1
            self._say(f"{run.name}: done")
            gather(self._plan)
        elif self._stop.requested:
            self.counts["stopped"] += 1
            self._say(f"{run.name}: stopped")
        else:
            error = state.error or f"its process ended with {code}"
            write_state(run.directory, RunState(**{**vars(state), "status": "failed", "error": error}))
            self.counts["failed"] += 1
            self._say(f"{run.name}: failed: {error}\n  its log: {run.directory / LOG}")

    def _finished(self) -> int:
        return sum(self.counts.values())

    def _say(self, text: str) -> None:
        self._screen.say(f"{time.strftime('%H:%M:%S')} {text}")

    def _show(self, running: dict[Path, Run], *, lines: bool) -> None:
        """A bar for every run, or now and then a line for all."""
        shown = []
        for directory, run in running.items():
            if run.config is None:
                continue
            update, note = progress(directory)
            if self._screen.bars is None:
                shown.append(f"{run.name} {update}/{run.config.updates}")
                continue
            if run.name not in self._bars:
                self._bars[run.name] = self._screen.task(run.name, run.config.updates, done=update)
            self._bars[run.name](update, note)
        if lines and shown:
            self._say(f"{self._finished()} of {len(self._plan.runs)} done; running: {', '.join(shown)}")


def progress(directory: Path) -> tuple[int, str]:
    """The last update in a run's log, and a word on it."""
    try:
        with open(directory / "metrics.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 16384))
            lines = file.read().splitlines()
    except OSError:
        return 0, ""
    for line in reversed(lines):
        try:
            content = json.loads(line)
        except ValueError:
            continue
        speed = content.get("updates_per_second")
        return int(content.get("update", 0)), "" if speed is None else f"{speed:.1f}/s"
    return 0, ""


def states(plan: SweepRuns) -> list[tuple[Run, RunState, int]]:
    """Every run, its state, and its last update in the log."""
    found, at_work = [], _at_work(plan.folder)
    for run in chain.from_iterable(plan.stages):
        state = wanted_state(run)
        status = state.status
        if state.finished:
            status = "done"
        elif status == "done":
            status = "waiting"  # the file asks for more by now
        elif status == "running" and not at_work:
            status = "stopped"  # it was killed
        found.append((run, RunState(**{**vars(state), "status": status}), progress(run.directory)[0]))
    return found


def _at_work(folder: Path) -> bool:
    """Whether a process works on the sweep in a folder."""
    if not folder.is_dir():
        return False
    try:
        FolderLock(folder).release()
    except FolderInUseError:
        return True
    return False
