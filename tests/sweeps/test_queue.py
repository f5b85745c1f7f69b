"""The queue: what is skipped, goes on, fails alone, and lands in the tables. Runs are worked on in this process."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.conftest import WALK, lines
from thick.commands import sweep as command
from thick.progress import Screen
from thick.sweeps.definition import SweepRuns, read_sweep
from thick.sweeps.pools import RayPool
from thick.sweeps.queue import Queue, states
from thick.sweeps.results import gather
from thick.sweeps.state import read_state
from thick.sweeps.worker import Worker
from thick.training.trainer import Trainer
from thick.training.trainer import resume as resume_run

ROOT = Path(__file__).resolve().parents[2]
WALK_FILE = ROOT / "tests" / "training" / "walk.py"
WRITE = (
    "import sys, pathlib; out, seed = sys.argv[1:]; p = pathlib.Path(out); "
    "(p / 'a.json').write_text('{\"score\": {\"mean\": %s}}' % seed); "
    "(p / 'b.csv').write_text('episode,won\\n0,%s\\n1,0\\n' % seed)"
)


class Inline:
    """Works on a run as soon as it is started."""

    def __init__(self, around: Callable[[Worker], None] = Worker.run) -> None:
        self.started: list[str] = []
        self.asked = False
        self._around, self._codes = around, dict[Path, int]()

    def free(self) -> bool:
        return not self._codes

    def start(self, directory: Path, threads: int) -> None:
        self.started.append(directory.name)
        worker = Worker(directory)
        self._around(worker)
        self._codes[directory] = worker.code

    def ended(self) -> dict[Path, int]:
        codes, self._codes = self._codes, {}
        return codes

    def ask_to_stop(self) -> None:
        self.asked = True

    def kill(self) -> None: ...

    def close(self) -> None: ...


def sweep_file(tmp_path: Path, **changes: Any) -> Path:
    config = {**WALK, "env": f"{WALK_FILE}:Walk", "learner": "planet", "updates": 4}
    config["model"] = {**WALK["model"], "behaviour": "none", "levels": [], "dynamics": "rssm"}
    config["planner"] = {}
    content = {"folder": str(tmp_path / "runs"), "config": config, "grid": {"seed": [0, 1, 2]}, **changes}
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def work(plan: SweepRuns, pool: Inline) -> Counter[str]:
    return Queue(plan, pool, Screen()).run()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thick.sweeps.queue._LOOK_S", 0.0)


def test_finished_runs_are_skipped_and_their_numbers_are_in_one_table(tmp_path: Path) -> None:
    script = tmp_path / "write.py"
    script.write_text(WRITE)
    plan = read_sweep(
        sweep_file(
            tmp_path, after={"score": f"python {script} {{out}} {{seed}}"}, results=str(tmp_path / "toy.csv")
        )
    )
    pool = Inline()
    assert work(plan, pool) == {"done": 3}
    assert pool.started == ["seed0", "seed1", "seed2"]
    assert work(plan, pool) == {"skipped": 3}
    assert len(pool.started) == 3
    assert {path.name for path in gather(plan)} == {"results.csv", "toy.csv", "score.csv", "toy-score.csv"}
    with open(tmp_path / "toy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    scores = {row["run"]: row for row in rows if row["metric"] == "score/mean"}
    assert {name: float(row["value"]) for name, row in scores.items()} == {"seed0": 0, "seed1": 1, "seed2": 2}
    one, two = scores["seed1"], scores["seed2"]
    assert (one["seed"], two["seed"]) == ("1", "2")
    assert one["config"] == two["config"] != ""
    assert one["data"].startswith("random 24:")
    assert one["data"] != two["data"]
    assert one["commit"]
    assert any(row["metric"] == "world/decoder" and row["step"] == "train" for row in rows)
    with open(tmp_path / "toy-score.csv", newline="") as file:
        assert [row["won"] for row in csv.DictReader(file) if row["run"] == "seed2"] == ["2", "0"]


class AtOnce(Inline):
    """Takes whatever there is, and works on it when it is asked what has ended: last come, first served."""

    def __init__(self) -> None:
        super().__init__()
        self._taken: list[Path] = []

    def free(self) -> bool:
        return True

    def start(self, directory: Path, threads: int) -> None:
        self._taken.append(directory)

    def ended(self) -> dict[Path, int]:
        while self._taken:
            super().start(self._taken.pop(), 1)
        return super().ended()


def test_commands_before_all_runs_wait_for_those_whose_work_they_need(tmp_path: Path) -> None:
    script = tmp_path / "copy.py"
    script.write_text(
        "import sys, pathlib; a, b = sys.argv[1:]; pathlib.Path(b, 'x').write_text(open(a).read())"
    )
    (tmp_path / "source").write_text("here")
    before = {
        "one": f"python {script} {tmp_path}/source {{out}}",
        "two": f"python {script} {{before.one}}/x {{out}}",
    }
    pool = AtOnce()
    assert work(read_sweep(sweep_file(tmp_path, before=before, grid={"seed": [0]})), pool) == {"done": 1}
    assert pool.started == ["one.job", "two.job", "seed0"]
    assert (tmp_path / "runs" / "before" / "two" / "x").read_text() == "here"


def test_one_that_fails_is_reported_and_tried_again_while_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = tmp_path / "flag"
    check = (
        f"python -c \"import os, sys; sys.exit(3 if {{seed}} == 1 and not os.path.exists('{flag}') else 0)\""
    )
    plan = read_sweep(sweep_file(tmp_path, after={"check": check}))
    pool = Inline()
    assert work(plan, pool) == {"done": 2, "failed": 1}
    state = read_state(plan.folder / "seed1")
    assert state is not None
    assert (state.status, state.trained) == ("failed", True)
    assert "check: the command ended with 3" in state.error
    assert "seed1: failed: check: the command ended with 3" in capsys.readouterr().err
    flag.touch()
    assert work(plan, pool) == {"skipped": 2, "done": 1}
    assert pool.started[3:] == ["seed1"]


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = read_sweep(sweep_file(tmp_path, grid={"seed": [0]}))
    whole = read_sweep(sweep_file(tmp_path, grid={"seed": [0]}, folder=str(tmp_path / "whole")))
    work(whole, Inline())
    advance, calls = Trainer._advance, [0]

    def killed(trainer: Trainer) -> None:
        calls[0] += 1
        if calls[0] == 4:
            raise SystemExit  # at update 3, one after its checkpoint
        advance(trainer)

    def dies(worker: Worker) -> None:
        with pytest.raises(SystemExit):
            worker.run()

    monkeypatch.setattr(Trainer, "_advance", killed)
    assert work(plan, Inline(dies)) == {"failed": 1}
    monkeypatch.setattr(Trainer, "_advance", advance)
    resumed = []
    monkeypatch.setattr(
        "thick.training.trainer.resume",
        lambda *args, **named: resumed.append(1) or resume_run(*args, **named),
    )
    assert work(plan, Inline()) == {"done": 1}
    assert resumed
    assert lines(plan.folder / "seed0") == lines(whole.folder / "seed0")


def test_a_wish_to_stop_reaches_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    plan = read_sweep(sweep_file(tmp_path))

    def interrupted(worker: Worker) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        worker.ask_to_stop()
        worker.run()

    pool = Inline(interrupted)
    assert work(plan, pool) == {"stopped": 3}
    assert pool.started == ["seed0"]
    assert pool.asked
    assert [state.status for _, state, _ in states(plan)] == ["stopped", "waiting", "waiting"]


def test_a_run_goes_on_to_a_later_end_and_is_measured_again_there(tmp_path: Path) -> None:
    plan = read_sweep(sweep_file(tmp_path, grid={"seed": [0]}, after={"echo": "python -c 1"}))
    work(plan, Inline())
    path = sweep_file(tmp_path, grid={"seed": [0]}, after={"echo": "python -c 1"})
    content = yaml.safe_load(path.read_text())
    content["config"]["updates"] = 6
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    longer = read_sweep(path)
    assert [state.status for _, state, _ in states(longer)] == ["waiting"]
    assert work(longer, Inline()) == {"done": 1}
    assert lines(longer.folder / "seed0")[-1]["update"] == 6


def test_a_folder_with_another_configuration_is_refused_before_anything_starts(tmp_path: Path) -> None:
    work(read_sweep(sweep_file(tmp_path)), Inline())
    path = sweep_file(tmp_path)
    content = yaml.safe_load(path.read_text())
    content["config"]["batch"] = 3
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    pool = Inline()
    with pytest.raises(
        ValueError, match=r"seed0: .* holds a run with another batch than 3: name another folder"
    ):
        work(read_sweep(path), pool)
    assert not pool.started


def test_a_command_that_changed_is_run_again_and_nothing_else(tmp_path: Path) -> None:
    commands = {"one": "python -c 1", "two": "python -c 2"}
    work(read_sweep(sweep_file(tmp_path, grid={"seed": [0]}, after=commands)), Inline())
    ran = []
    plan = read_sweep(sweep_file(tmp_path, grid={"seed": [0]}, after={**commands, "two": "python -c 22"}))
    assert work(plan, Inline(lambda worker: ran.append(worker.state.pending) or worker.run())) == {"done": 1}
    assert ran == [["two"]]


def test_the_list_shows_every_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sweep_file(tmp_path)
    assert command.run([str(path), "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"seed{seed}" in shown for seed in range(3))
    assert shown.count("waiting") == 3
    assert not (tmp_path / "runs").exists()


def test_what_is_wrong_with_the_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sweep_file(tmp_path, confg={})
    assert command.run([str(path)]) == 2
    assert capsys.readouterr().err.startswith(
        "thick sweep: toy.yaml: unknown key 'confg'; did you mean 'config'?"
    )


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"--ray: the package 'ray' is not installed: pip install .*cluster"):
        RayPool("auto")


@pytest.mark.slow
def test_processes_save_on_a_signal_however_often_it_comes_and_go_on(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, grid={"seed": [0, 1]})
    content = yaml.safe_load(path.read_text())
    content["config"] |= {"updates": 100_000, "checkpoint_every": 100_000, "stop": 0, "log_every": 1}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    program = [
        sys.executable,
        "-c",
        f"import sys; from thick.commands.sweep import run; sys.exit(run({[str(path)]}))",
    ]
    process = subprocess.Popen(program, start_new_session=True, cwd=ROOT)
    folders = [tmp_path / "runs" / f"seed{seed}" for seed in range(2)]
    try:
        while not all((folder / "metrics.jsonl").is_file() for folder in folders):
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the sweep and its processes
        assert process.wait(120) == 130
    finally:
        process.kill()
    for folder in folders:
        state = read_state(folder)
        assert state is not None
        assert state.status == "stopped"
        last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["update"]
        assert int((folder / "checkpoints" / "latest").read_text()) == last
