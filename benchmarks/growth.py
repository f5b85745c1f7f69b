"""How an act's time grows with candidates, horizon, simulations, sessions and the size of the model.

    python benchmarks/growth.py [--seconds 1]      # measures, writes benchmarks/results/growth.csv and a picture
    python benchmarks/growth.py --draw             # the picture from the committed CSV

Engine alone, native runtime, two threads as the service has them on two cores; every act searches anew. Along one axis
at a time, everything else as the bundled `doorkey6` has it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.acting import act_times
from benchmarks.bars import native_runtime, resets
from benchmarks.serving.measure import machine

ROOT = Path(__file__).resolve().parents[1]
CSV = Path(__file__).with_name("results") / "growth.csv"
AXES: dict[str, list[int]] = {
    "samples": [8, 16, 32, 64, 128, 256, 512, 1024, 2048],
    "horizon": [2, 4, 8, 16, 32, 64],
    "simulations": [5, 10, 20, 40, 80, 160, 320],
    "sessions": [1, 2, 4, 8, 16, 32, 64],
    "width": [32, 64, 128, 256, 512],
}
NAMES = {
    "samples": "candidates an iteration",
    "horizon": "steps ahead",
    "simulations": "simulations of the high level",
    "sessions": "sessions at once",
    "width": "width of the layers (untrained)",
}


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each point")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.draw:
        rows = []
        for axis, values in AXES.items():
            for value in values:
                seconds = asyncio.run(point(axis, value, options))
                rows.append({"axis": axis, "value": value, "ms": f"{1e3 * seconds:.3f}"})
                print(axis, value, rows[-1]["ms"], "ms", flush=True)
        CSV.parent.mkdir(exist_ok=True)
        with CSV.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, ("axis", "value", "ms", "threads", "processor"), lineterminator="\n"
            )
            writer.writeheader()
            shared = {"threads": options.threads, "processor": machine().split(", load")[0]}
            writer.writerows([row | shared for row in rows])
    draw()


async def point(axis: str, value: int, options: argparse.Namespace) -> float:
    """Seconds in which all sessions have acted."""
    if axis == "width":
        runtime: Any = wide(value)
        settings: dict[str, Any] = {}
    else:
        runtime = native_runtime("doorkey6")
        settings = {} if axis == "sessions" else {axis: value}
        if axis == "samples":
            settings["elites"] = max(2, value // 10)
    sessions = value if axis == "sessions" else 1
    return await act_times(
        runtime,
        resets(16),
        sessions=sessions,
        threads=options.threads,
        seconds=options.seconds,
        settings=settings,
    )


def wide(width: int) -> Any:
    """An untrained model like the bundled one, with other widths."""
    from dataclasses import replace

    from thick.entries import model_config
    from thick.manifest import read_manifest
    from thick.models.networks import AgentNetworks
    from thick.runtimes.native.agents import native_agent
    from thick.runtimes.native.runtime import NativeRuntime

    like = native_runtime("doorkey6").agent
    config = model_config(read_manifest(ROOT / "checkpoints" / "doorkey6" / "1"))
    levels = tuple(replace(level, hidden=width, head_units=width) for level in config.levels)
    sizes = {name: width for name in ("deter", "hidden", "mlp_units", "head_units")}
    networks = AgentNetworks(
        replace(config, levels=levels, **sizes), like.observation_space, like.action_space
    )
    assert like.manifest is not None
    return NativeRuntime(native_agent(networks, planner=like.manifest.planner))


def draw() -> None:
    """One small plot an axis, both scales logarithmic, with a line of slope 1 for the eye."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, plots = pyplot.subplots(1, len(AXES), figsize=(15, 3.1), layout="constrained")
    for plot, axis in zip(plots, AXES, strict=True):
        points = [(int(row["value"]), float(row["ms"])) for row in rows if row["axis"] == axis]
        x, y = zip(*points, strict=True)
        plot.loglog(x, y, "o-", color="#2f63c6", base=2)
        plot.loglog(x, [y[-1] * each / x[-1] for each in x], ":", color="#889", base=2)
        plot.set(
            xlabel=NAMES[axis],
            ylabel="ms an act" if axis == "samples" else "",
            ylim=(min(y) / 2, max(y) * 1.6),
        )
        plot.grid(alpha=0.3)
    figure.suptitle(f"{rows[0]['processor']}, {rows[0]['threads']} threads; dotted: proportional", fontsize=9)
    figure.savefig(ROOT / "docs" / "images" / "growth.png", dpi=100)


if __name__ == "__main__":
    main()
