"""What an act costs without a server: the model called directly, and the engine called from an event loop.

    python benchmarks/serving/bare.py --models DIR

Reads lines ``MODEL METHOD LEVEL SESSIONS SECONDS`` (level ``model`` or ``engine``, the latter for one session)
and answers each with a line of JSON: the latencies and the CPU time of all acts, in seconds. The observations
arrive as arrays: nothing is decoded or checked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.serving.load import observations
from benchmarks.serving.recurrent import acted
from service.engine.engine import Engine
from service.engine.jobs import ActJob
from service.models.hosted import Hosted
from service.models.warmup import prepare
from service.operations.metrics import Metrics
from thick.planning.settings import session_key
from thick.runtimes.backends import open_runtime


def model_alone(hosted: Hosted, method: str, sessions: int, seconds: float) -> list[float]:
    """Observe and plan for some sessions at once, called directly; each act's share of the time."""
    runtime = hosted.runtime
    settings = runtime.settings({"method": method})
    seen = [observations(hosted.name, index) for index in range(sessions)]
    state, times = runtime.initial(sessions), []
    end = time.perf_counter() + seconds
    step = 0
    while (began := time.perf_counter()) < end or not times:
        shown = np.stack([each[step % len(each)] for each in seen])
        result = acted(runtime, state, shown, [step] * sessions, settings)
        state = result.state
        runtime.decode_action(result.action)
        times += [(time.perf_counter() - began) / sessions] * sessions
        step += 1
    return times


async def engine_alone(engine: Engine, hosted: Hosted, method: str, seconds: float) -> list[float]:
    """The same through the engine: a job handed to its worker, and its result."""
    settings = hosted.runtime.settings({"method": method})
    loop = asyncio.get_running_loop()
    seen = observations(hosted.name, 1)
    slot, times = hosted.slots.retain(hosted.initial_slot), []
    end = time.perf_counter() + seconds
    step = 0
    while (began := time.perf_counter()) < end:
        job = ActJob(
            model=hosted,
            loop=loop,
            future=loop.create_future(),
            slot=slot,
            observation=seen[step % len(seen)],
            is_first=step == 0,
            settings=settings,
            key=session_key(0, step),
        )
        result = await engine.submit(job)
        hosted.slots.release(slot)
        slot = result.slot
        times.append(time.perf_counter() - began)
        step += 1
    hosted.slots.release(slot)
    return times


async def answer(models: Path) -> None:
    """Answer the lines on the standard input."""
    engine = Engine(metrics=Metrics(), threads=1)
    engine.start()
    hosted = {}
    for folder in sorted(models.iterdir()):
        entry = sorted(folder.iterdir())[-1]
        hosted[folder.name] = Hosted(folder.name, entry.name, entry)
        await prepare(hosted[folder.name], open_runtime(entry), engine)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        model, method, level, sessions, seconds = line.split()
        began = time.process_time()
        if level == "model":
            times = model_alone(hosted[model], method, int(sessions), float(seconds))
        else:
            times = await engine_alone(engine, hosted[model], method, float(seconds))
        print(json.dumps({"latencies": times, "cpu_s": time.process_time() - began}), flush=True)
    await engine.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    given = parser.parse_args()
    import uvloop

    uvloop.run(answer(given.models))


if __name__ == "__main__":
    main()
