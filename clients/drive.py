"""``thick drive``: whole episodes against a running service, several environments at once."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clients import flags
from clients.episodes import EpisodeResult, Pace, Task, Watcher, action_names, play, summarise
from thick.arguments import Parser, above, at_least, file_to_write


class Tally:
    """Results as they come in, for the progress display; safe to use from many threads."""

    def __init__(self, episodes: int) -> None:
        self.episodes = episodes
        self.results: dict[int, EpisodeResult] = {}
        self.acts = 0
        self._lock = threading.Lock()

    def add(self, index: int, result: EpisodeResult) -> None:
        """Notes the result of the episode ``index``."""
        with self._lock:
            self.results[index] = result
            self.acts += result.length

    def text(self) -> str:
        """``success 95.0 % · return 0.91``"""
        with self._lock:
            results = list(self.results.values())
        if not results:
            return "first episodes running"
        known = [result.success for result in results if result.success is not None]
        rate = f"success {100 * sum(known) / len(known):.1f} %, " if known else ""
        return f"{rate}return {sum(result.return_ for result in results) / len(results):.3g}"


def drive(
    task: Task,
    *,
    episodes: int,
    seed: int,
    parallel: int = 1,
    watch_first: Watcher | None = None,
    tally: Tally | None = None,
) -> list[EpisodeResult]:
    """Plays episodes, ``parallel`` at a time, each with its own session; episode i has the seed ``seed + i``.

    Raises:
        ClientError: of the first episode that failed; the others are stopped and their sessions deleted.
    """
    tally = tally or Tally(episodes)
    stop = threading.Event()
    indices = iter(range(episodes))
    take = threading.Lock()

    def one(env: Any, index: int, watch: Watcher | None) -> None:
        result = play(task, env, seed + index, watch=watch, stopped=stop.is_set)
        if result is not None:
            tally.add(index, result)

    def work() -> None:
        env = task.make_env()
        try:
            while not stop.is_set():
                with take:
                    index = next(indices, None)
                if index is None:
                    return
                if index == 0 and watch_first:
                    filmed = task.make_filmed_env()
                    try:
                        one(filmed, index, watch_first)
                    finally:
                        filmed.close()
                else:
                    one(env, index, None)
        finally:
            env.close()

    workers = min(parallel, episodes)
    with ThreadPoolExecutor(workers, thread_name_prefix="drive") as pool:
        futures: list[Future[None]] = [pool.submit(work) for _ in range(workers)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()  # an error or Ctrl-C: the others stop at their next step
    for future in futures:
        future.result()
    return [tally.results[index] for index in sorted(tally.results)]


@contextmanager
def progress(tally: Tally, title: str) -> Iterator[None]:
    """A bar with the running success rate in a terminal; a line every ten seconds or so elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    finished = threading.Event()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[tally]}"), TimeElapsedColumn(), console=console,
        disable=not console.is_terminal,
    )  # fmt: skip
    row = bar.add_task(title, total=tally.episodes, tally=tally.text())

    def refresh() -> None:
        said, last = 0, time.monotonic()
        while not finished.wait(0.2):
            done = len(tally.results)
            bar.update(row, completed=done, tally=tally.text())
            if not console.is_terminal and done > said and time.monotonic() - last > 10:
                print(
                    f"{title}: {done}/{tally.episodes} episodes, {tally.text()}", file=sys.stderr, flush=True
                )
                said, last = done, time.monotonic()

    watcher = threading.Thread(target=refresh, daemon=True)
    with bar:
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()
            bar.update(row, completed=len(tally.results), tally=tally.text())


def report(summary: dict[str, Any], task: Task, seconds: float) -> str:
    """The result in a few lines, for a person."""
    episodes = summary["episodes"]
    steps = sum(episode["length"] for episode in episodes)
    lines = [
        f"{task.model.name} {task.model.version} in {task.env_id}, {task.method}: {len(episodes)} episodes"
    ]
    if summary["success_rate"] is not None:
        solved = sum(bool(episode["success"]) for episode in episodes)
        lines.append(f"  success  {100 * summary['success_rate']:.1f} % ({solved} of {len(episodes)})")
    if summary["mean_return"] is not None:
        lines.append(f"  return   {summary['mean_return']:.4g} on average, {steps / len(episodes):.1f} steps")
    if summary["act_ms"]["p50"] is not None:
        p50, p95 = summary["act_ms"]["p50"], summary["act_ms"]["p95"]
        lines.append(f"  act      {p50:.1f} ms median, {p95:.1f} ms at the 95th percentile")
    if (sources := summary.get("sources")) is not None:
        ticks = max(1, sources["plan"] + sources["tail"] + sources["hold"])
        lines.append(
            f"  in time  {100 * sources['plan'] / ticks:.1f} % of the answers; {sources['tail']} actions from the tail "
            f"of a plan, {sources['hold']} held, {sources['overruns']} steps overrun"
        )
    lines.append(f"  took     {seconds:.1f} s, {steps / max(seconds, 1e-9):.0f} steps a second")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    made = Parser(
        prog="thick drive",
        description="Play whole episodes in an environment on this machine, with actions from a running "
        "service (`thick serve`), and report how often they succeed.",
        epilog="example: thick drive --model doorkey --episodes 20 --parallel 4 --gif episode.gif",
    )
    flags.add_task(made)
    made.add_argument("--episodes", type=at_least(1), default=10, metavar="N", help="(10)")
    made.add_argument(
        "--seed", type=at_least(0), default=0, metavar="S", help="episode i has the seed S + i (0)"
    )
    made.add_argument(
        "--parallel", type=at_least(1), default=1, metavar="P", help="environments driven at once (1)"
    )
    made.add_argument("--max-steps", type=at_least(1), metavar="N", help="end episodes after this many steps")
    pace = made.add_argument_group("an environment that does not wait")
    pace.add_argument("--hz", type=above(0), metavar="R", help="steps a second; late answers are made up for")
    pace.add_argument(
        "--latency-ms", type=above(0, or_equal=True), default=0.0, metavar="MS", help="hold answers back (0)"
    )
    pace.add_argument(
        "--jitter-ms",
        type=above(0, or_equal=True),
        default=0.0,
        metavar="MS",
        help="latency varies by that (0)",
    )
    pace.add_argument(
        "--tail",
        type=at_least(0),
        default=8,
        metavar="N",
        help="actions of a plan used at most after its step (8)",
    )
    made.add_argument(
        "--gif", type=file_to_write(".gif"), metavar="FILE", help="write a film of the first episode"
    )
    made.add_argument("--json", type=file_to_write(), metavar="FILE", help="write the results")
    flags.add_planner(made, baseline=True)
    flags.add_connection(made)
    return made


def run(argv: Sequence[str]) -> int:
    """The command; raises what :func:`drive` raises."""
    arguments = parser()
    options = arguments.parse_args(list(argv))
    if options.hz is None and (options.latency_ms or options.jitter_ms):
        arguments.error(
            "--latency-ms and --jitter-ms hold answers back from an environment that keeps time: give --hz"
        )
    if options.hz is not None and options.method == "random":
        arguments.error("--hz paces acts that a service is asked for: leave it out with --method random")
    with flags.connect(options) as client:
        task = Task.of(
            client,
            options.model,
            version=options.version,
            env_id=options.env,
            env_options=options.env_options,
            planner=flags.planner_overrides(options),
            max_steps=options.max_steps,
            pace=_pace(options),
        )
        summary = drive_and_show(
            task, episodes=options.episodes, seed=options.seed, parallel=options.parallel, gif=options.gif
        )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(summary, indent=2) + "\n")
        print(f"results: {options.json}")
    return 0


def drive_and_show(
    task: Task, *, episodes: int, seed: int, parallel: int, gif: Path | None
) -> dict[str, Any]:
    """Drives with a progress bar, writes the film, prints the report; returns the summary."""
    film = None
    if gif:
        from clients.pictures import Film

        env = task.make_env()
        film = Film(env.observation_space, action_names(env), title=f"{task.model.name}, {task.method}")
        env.close()
    tally = Tally(episodes)
    began = time.perf_counter()
    with progress(tally, f"{task.model.name} ({task.method})"):
        results = drive(task, episodes=episodes, seed=seed, parallel=parallel, watch_first=film, tally=tally)
    summary = summarise(results)
    print(report(summary, task, time.perf_counter() - began))
    if film and gif:
        film.save(gif)
        print(f"film: {gif}")
    return summary


def _pace(options: argparse.Namespace) -> Pace | None:
    if options.hz is None:
        return None
    return Pace(options.hz, options.latency_ms / 1e3, options.jitter_ms / 1e3, options.tail)
