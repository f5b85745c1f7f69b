"""How fast learners learn, and what bounds them.

    python benchmarks/training.py [--learners dreamer thick-dreamer] [--sizes paper small] [--threads 2] [--updates 5]
    python benchmarks/training.py --quick --check
    python benchmarks/training.py --device cuda            # see benchmarks/training_gpu.py

A row is a learner at a size: updates and environment steps a second of a run as ``thick train`` makes it (collecting,
data and logs included), the share of each part, and the ratio to the floor: the operations of the matrix products and
convolutions in one update, as torch counts them, over the best rate of a matrix product found in the same run with the
same threads. Small sizes take one thread, as sweeps do. ``--against REV`` lets another version update in turn.

``--check`` prints the bars and exits with 1 where one is missed: THICK Dreamer at the paper's size at most 2.2 times
its floor; with its losses estimated (preset ``options/sampled``) at most 1.5 times Dreamer's update, where the paper's
own form takes twice Dreamer's operations, which is printed beside it; THICK PlaNet on the small grid preset at least
twice the updates of the version before learners were made of parts. ``--quick`` measures what the bars need, and no
more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import training_gpu  # noqa: E402
from benchmarks.one_learner import ENVS, PRESETS, learner  # noqa: E402
from benchmarks.serving.measure import machine  # noqa: E402

LEARNERS = ("planet", "dreamer", "thick-planet", "thick-dreamer", "plan2explore", "director")
BEFORE_PARTS = "7fcdc1c489baf5d80257139fa7af0d4a8f532eea"
"""the last version whose learner was one class with four groups"""
FLOOR_BAR, DREAMER_BAR, PREVIOUS_BAR = 2.2, 1.5, 2.0


def product_rate(seconds: float = 1.0) -> float:
    """Floating-point operations a second of the fastest matrix product, with the threads that torch has now."""
    best = 0.0
    for size in (512, 1024, 2048):
        x, y, out = (torch.randn(size, size) for _ in range(3))
        until = time.perf_counter() + seconds / 3
        while time.perf_counter() < until:
            began = time.perf_counter()
            torch.mm(x, y, out=out)
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def operations(of: Any, data: Any) -> float:
    """Of the matrix products and convolutions of one update."""
    with FlopCounterMode(display=False) as counter:
        of.update(data)
    return float(counter.get_total_flops())


# -- a run, part by part -----------------------------------------------------------------------------------------


class Clock:
    """Seconds by part; a part within another is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def wrap(self, owner: Any, method: str, name: Callable[..., str]) -> None:
        """Count the calls of a method for the part that ``name`` makes of its arguments."""
        original = getattr(owner, method)

        def called(*given: Any, **named: Any) -> Any:
            with self.part(name(*given)):
                return original(*given, **named)

        setattr(owner, method, called)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


@dataclass
class Row:
    """What was measured of a learner at a size."""

    learner: str
    size: str
    threads: int
    update: float
    """seconds of the fastest update from a given batch"""
    loop: float
    """seconds of the loop for an update: collecting, data, update"""
    env_steps: float
    """environment steps for an update"""
    floor: float
    """seconds"""
    shares: dict[str, float]

    @property
    def ratio(self) -> float:
        """Of an update to its floor."""
        return self.update / self.floor


def measure(name: str, size: str, threads: int, updates: int) -> Row:
    """A run in a folder of its own: prefill, then updates that collect as they do in training."""
    from thick.configuration import merge
    from thick.training.config import load_config
    from thick.training.trainer import Trainer

    config = load_config(f"learners/{name}", *PRESETS[size])
    changes: dict[str, Any] = {"env": ENVS[size], "threads": threads, "precision": "fp32"}
    changes["data"] = {"prefill": 8 * config.length * 4, "capacity": 20_000}
    config = merge(config, changes)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder) / "run")
        try:
            trainer._prepare()
            trainer._advance()
            of, experience = trainer.learner, trainer.experience
            clock.wrap(experience, "collect", lambda *_: "collection")
            clock.wrap(experience, "sample", lambda *_: "data")
            clock.wrap(of.model.world, "observe", lambda *_: "world")
            clock.wrap(of, "_learn", lambda part, *_: part.name)
            clock.wrap(of, "_step", lambda *_: "optimiser")
            # Updates with a batch at hand alternate with the product that they are compared with.
            loops, times, rate = [], [], 0.0
            _, data = learner(name, size, threads)
            for _ in range(updates):
                rate = max(rate, product_rate(0.3))
                began = time.perf_counter()
                with clock.part("other"):
                    trainer._advance()
                loops.append(time.perf_counter() - began)
                seconds, clock.seconds = clock.seconds, defaultdict(float)
                began = time.perf_counter()
                of.update(data)
                times.append(time.perf_counter() - began)
                clock.seconds = seconds
            floor = operations(of, data) / rate
        finally:
            trainer.close()
    total = sum(clock.seconds.values())
    shares = {part: seconds / total for part, seconds in clock.seconds.items()}
    steps = config.data.env_steps_per_update
    return Row(name, size, threads, min(times), sum(loops) / len(loops), steps, floor, shares)


def show(rows: list[Row]) -> None:
    """One line a row, in Markdown."""
    headings = (
        "learner",
        "size",
        "threads",
        "updates/s",
        "floor ms",
        "update / floor",
        "in a run: updates/s",
    )
    headings += ("env steps/s", "shares")
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}", flush=True)
    for row in rows:
        shares = ", ".join(
            f"{part} {share:.0%}" for part, share in sorted(row.shares.items(), key=lambda item: -item[1])
        )
        cells = (
            row.learner, row.size, row.threads, f"{1 / row.update:.2f}", f"{1000 * row.floor:.0f}", f"{row.ratio:.2f}",
            f"{1 / row.loop:.2f}", f"{row.env_steps / row.loop:.1f}", shares,
        )  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


# -- learners in turn --------------------------------------------------------------------------------------------


class Process:
    """A learner in a process of its own (:mod:`benchmarks.one_learner`).

    Args:
        checkout: whose code it runs.
    """

    def __init__(self, name: str, size: str, threads: int, checkout: Path = ROOT) -> None:
        command = [sys.executable, str(ROOT / "benchmarks" / "one_learner.py"), name, size, str(threads)]
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout
        )

    def update(self, times: int) -> list[float]:
        """Seconds of so many updates."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args}: ended with {self._process.wait()}")
        return json.loads(answer)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def in_turn(processes: dict[str, Process], rounds: int, updates: int) -> dict[str, float]:
    """Seconds of the fastest update of each, all taking turns."""
    best = dict.fromkeys(processes, float("inf"))
    for process in processes.values():
        process.update(1)
    for _ in range(rounds):
        for name, process in processes.items():
            best[name] = min(best[name], *process.update(updates))
    for process in processes.values():
        process.close()
    return best


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Another version's files, for as long as they are needed.

    Raises:
        RuntimeError: there is no such revision here.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "version"
        git = ["git", "-C", str(ROOT), "worktree"]
        done = subprocess.run([*git, "add", "--detach", str(place), revision], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"--against {revision}: {done.stderr.strip().splitlines()[-1]}")
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], capture_output=True)


def against(name: str, size: str, threads: int, revision: str, rounds: int) -> float:
    """Updates a second of this version relative to another's."""
    with checkout(revision) as place:
        processes = {"this": Process(name, size, threads), "that": Process(name, size, threads, place)}
        best = in_turn(processes, rounds, 4 if size == "small" else 1)
    ratio = best["that"] / best["this"]
    rates = f"{1 / best['this']:.2f} updates/s, {1 / best['that']:.2f} at {revision[:12]}"
    print(f"{name}, {size}, {threads} threads: {rates}: {ratio:.2f} times as fast", flush=True)
    return ratio


def bars(threads: int, rounds: int) -> bool:
    """Print the bars; whether all are held."""
    torch.set_num_threads(threads)
    of, data = learner("thick-dreamer", "paper", threads)
    count = operations(of, data)
    del of, data
    exact, sampled, flat = (
        ("thick-dreamer", "paper"),
        ("thick-dreamer", "paper-sampled"),
        ("dreamer", "paper"),
    )
    processes = {which: Process(*which, threads) for which in (exact, sampled, flat)}
    best, rate = dict.fromkeys(processes, float("inf")), 0.0
    for _ in range(rounds + 1):  # the first warms up
        rate = max(rate, product_rate())
        for which, process in processes.items():
            best[which] = min(best[which], *process.update(1))
    for process in processes.values():
        process.close()
    found = [
        ("THICK Dreamer, paper, update / floor", best[exact] / (count / rate), FLOOR_BAR, False),
        ("THICK Dreamer, losses sampled / Dreamer, paper", best[sampled] / best[flat], DREAMER_BAR, False),
    ]
    print(f"floor of THICK Dreamer: {count / 1e9:.0f} Gop at {rate / 1e9:.0f} Gop/s = {count / rate:.2f} s")
    print(
        f"update: THICK Dreamer {best[exact]:.2f} s ({best[exact] / best[flat]:.2f} times Dreamer), losses sampled "
        f"{best[sampled]:.2f} s, Dreamer {best[flat]:.2f} s; {threads} threads"
    )
    try:
        ratio = against("thick-planet", "small", 1, BEFORE_PARTS, 2 * rounds)
        found.append(("THICK PlaNet, small, updates/s over the version before", ratio, PREVIOUS_BAR, True))
    except RuntimeError as error:
        print(f"not measured: {error}")
    held = True
    for text, value, bar, least in found:
        fine = value >= bar if least else value <= bar
        held &= fine
        print(
            f"{'held  ' if fine else 'MISSED'}  {text}: {value:.2f} (bar: {'at least' if least else 'at most'} {bar})"
        )
    return held


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=LEARNERS)
    parser.add_argument("--sizes", nargs="+", choices=tuple(ENVS), default=("paper", "small"))
    parser.add_argument(
        "--threads", type=int, default=min(2, os.cpu_count() or 1), help="at the paper's size"
    )
    parser.add_argument("--updates", type=int, default=5, help="measured of each learner")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", type=Path, help="where the rows of a GPU are written")
    parser.add_argument("--against", metavar="REV", help="compare with another version, in turn")
    parser.add_argument("--quick", action="store_true", help="what the bars need, and no more")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    options = parser.parse_args()
    if options.device != "cpu":
        if not torch.cuda.is_available():
            parser.error(f"--device {options.device}: torch finds no GPU here")
        return training_gpu.main(options, operations)
    print(f"{machine()}; torch {torch.__version__}", flush=True)
    if not options.quick:
        rows = []
        for size in options.sizes:
            threads = 1 if size == "small" else options.threads
            for name in options.learners:
                print(f"  {name}, {size}", file=sys.stderr)
                rows.append(measure(name, size, threads, options.updates * (4 if size == "small" else 1)))
        show(rows)
        if options.against:
            for row in rows:
                against(row.learner, row.size, row.threads, options.against, 3)
    if options.quick or options.check:
        held = bars(options.threads, 2 if options.quick else 4)
        return int(options.check and not held)
    return 0


if __name__ == "__main__":
    sys.exit(main())
