"""The engine with its defaults, compared with every fixed number of threads and of parallel plans, in one run.

    python benchmarks/planning.py --threads-table [--seconds 4] [--rounds 4] [--models doorkey6,paper] [--check]

Models are opened as ``thick serve`` opens them; ``doorkey6:torch`` asks for a backend.

A row is a model, a number of sessions that act without a pause, and whether another process keeps a core busy. In each
row all settings take turns for ``--seconds`` at a time, so that all meet the same machine; what is compared is the
time of an act, summed over the rounds. ``default / best`` is the default's relative to that of the best fixed setting;
``--check`` exits with 1 where it is above 1.10.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WORST = 1.10
SESSIONS = (1, 2, 10)
BUSY = "while True: sum(range(10_000))"

Setting = tuple[int, int] | None
"""threads and plans side by side; None is the default"""


class Served:
    """A model as the engine wants it."""

    version = "1"

    def __init__(self, name: str, runtime: Any) -> None:
        from service.engine.slots import SlotTable
        from thick.spaces import as_space

        self.name, self.runtime = name, runtime
        self.observation_space = as_space(dict(runtime.observation_space))
        self.slots = SlotTable(runtime)
        (self.initial_slot,), _ = self.slots.keep(runtime.initial(1), 1)

    def bring(self, runtime: Any) -> None:
        """It has its slots already."""


def main(options: argparse.Namespace) -> int:
    """Measure, print, and check if that was asked for."""
    rows = asyncio.run(measure(options))
    print(table(rows))
    worst = max(row["ratio"] for row in rows)
    if options.check and worst > WORST:
        print(
            f"the defaults lose {100 * (worst - 1):.0f} % in one row; at most {100 * (WORST - 1):.0f} % are allowed"
        )
        return 1
    return 0


async def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each model, number of sessions and kind of company."""
    from service.engine.engine import Engine
    from service.engine.parallel import cores
    from service.models.warmup import prepare
    from service.operations.metrics import Metrics

    fixed = sorted({(threads, plans) for threads in (1, cores()) for plans in (1, cores() // threads)})
    rows = []
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            model = Served(name, runtime_of(name, Path(folder)))
        engines: dict[Setting, Engine] = {}
        for setting in (None, *fixed):
            threads, plans = setting or (None, None)
            engines[setting] = Engine(metrics=Metrics(), threads=threads, plans_at_once=plans)
            engines[setting].start()
            await prepare(model, model.runtime, engines[setting])  # type: ignore[arg-type]
        for sessions, busy in itertools.product(SESSIONS, (False, True)):
            with company() if busy else contextlib.nullcontext():
                times: dict[Setting, list[float]] = {setting: [] for setting in engines}
                for turn in range(options.rounds + 1):
                    for setting, engine in engines.items():
                        took = await act_for(engine, model, sessions, options.seconds)
                        if turn:  # the first one is a warm-up
                            times[setting] += took
            mean = {setting: sum(took) / len(took) for setting, took in times.items()}
            best = min(fixed, key=lambda setting: mean[setting])
            row = {"model": name, "sessions": sessions, "busy": busy, "mean": mean, "best": best}
            rows.append({**row, "ratio": mean[None] / mean[best]})
            print(
                f"{name}, {sessions} session(s){', busy' if busy else ''}: {rows[-1]['ratio']:.2f}",
                file=sys.stderr,
            )
        for engine in engines.values():
            await engine.stop()
    return rows


def runtime_of(model: str, folder: Path) -> Any:
    """The runtime that the service takes for a model, opened from an entry as the service does.

    Args:
        model: ``NAME`` or ``NAME:BACKEND``; a bundled checkpoint, or ``paper``: the paper's size, random weights.
        folder: where the latter is written.
    """
    from thick.runtimes.backends import AUTO, open_runtime

    name, _, backend = model.partition(":")
    entry = write_paper(folder) if name == "paper" else sorted((ROOT / "checkpoints" / name).iterdir())[-1]
    return open_runtime(entry, backend=backend or AUTO)


def write_paper(folder: Path) -> Path:
    """An entry of the paper's size (z 32×32, h 256, c 16, a 64×64 image, four continuous actions), random weights."""
    from benchmarks.planning import paper_networks
    from thick.export import write_entry
    from thick.spaces import space_to_json

    networks = paper_networks(argparse.Namespace(actions="continuous", no_end=False))
    return write_entry(
        folder,
        name="paper",
        version=None,
        kind="thick",
        task="benchmark:paper",
        observation_space=space_to_json(networks.observation_space),
        action_space=space_to_json(networks.action_space),
        configuration={"model": networks.config},
        planner={"iterations": 2},  # of ten: what is compared does not depend on it
        provenance={"command": "random weights, for benchmarks/planning.py"},
        tensors=networks.state_dict(),
    )


async def act_for(engine: Any, model: Served, sessions: int, seconds: float) -> list[float]:
    """Times of the acts of some sessions, each of which acts again as soon as it has its answer, s."""
    settings, until = model.runtime.settings({}), time.monotonic() + seconds
    each = await asyncio.gather(*(one(engine, model, settings, number, until) for number in range(sessions)))
    return [took for times in each for took in times]


async def one(engine: Any, model: Served, settings: Any, number: int, until: float) -> list[float]:
    """The acts of one session, at least one."""
    from service.engine.jobs import ActJob
    from service.models.warmup import sample
    from thick.planning.settings import session_key

    loop, rng = asyncio.get_running_loop(), np.random.default_rng(number)
    seen = [sample(model.observation_space, rng) for _ in range(8)]
    slot, times = model.slots.retain(model.initial_slot), []
    while not times or time.monotonic() < until:
        began, step = time.perf_counter(), len(times)
        job = ActJob(
            model=model,
            loop=loop,
            future=loop.create_future(),
            slot=slot,
            session=str(number),
            observation=seen[step % len(seen)],
            is_first=step == 0,
            settings=settings,
            key=session_key(number, step),
        )
        result = await engine.submit(job)
        model.slots.release(slot)
        slot = result.slot
        times.append(time.perf_counter() - began)
    model.slots.release(slot)
    return times


@contextlib.contextmanager
def company() -> Iterator[None]:
    """Another process that wants a core all the time."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people: ms an act."""
    fixed = [setting for setting in rows[0]["mean"] if setting is not None]
    named = [f"{threads} thread(s) × {plans} plan(s)" for threads, plans in fixed]
    lines = [
        "| model | sessions | with a busy process | default, ms | "
        + " | ".join(named)
        + " | default / best |",
        "| --- " * (len(fixed) + 5) + "|",
    ]
    for row in rows:
        shown = [f"{1e3 * row['mean'][setting]:.1f}" for setting in (None, *fixed)]
        company = "yes" if row["busy"] else "no"
        lines.append(
            f"| {row['model']} | {row['sessions']} | {company} | "
            + " | ".join(shown)
            + f" | {row['ratio']:.2f} |"
        )
    return "\n".join(lines)
