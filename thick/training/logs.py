"""Where a run says what it does: a progress bar or lines, ``metrics.jsonl`` and TensorBoard."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Collects scalars between two lines and writes their means.

    Args:
        directory: the run's folder.
        total: number of updates, for the bar.
        done: updates done before (resumed runs go on in the same files).
    """

    def __init__(self, directory: Path, *, total: int, done: int = 0) -> None:
        self._jsonl = directory / "metrics.jsonl"
        self._writer = SummaryWriter(directory / "tensorboard", purge_step=done or None)
        self._sums: dict[str, list[float]] = defaultdict(list)
        self._since = time.monotonic()
        self._last = done
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("training", total=total, completed=done, note="")
            self._bar.start()
        self._total = total

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Remember scalars until the next :meth:`write`."""
        for name, value in values.items():
            self._sums[name].append(float(value))

    def write(self, update: int, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One line with the means since the last one."""
        now = time.monotonic()
        means: dict[str, Any] = {name: float(np.mean(values)) for name, values in sorted(self._sums.items())}
        means |= extra or {}
        means["updates_per_second"] = (update - self._last) / max(now - self._since, 1e-9)
        self._sums.clear()
        self._since, self._last = now, update
        for name, value in means.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, update)
        self._append({"update": update, "time": time.time(), **means})
        self._show(update, means)
        return means

    def event(self, update: int, kind: str, content: Mapping[str, Any]) -> None:
        """A line of its own: an evaluation, a measurement of the gates, the data."""
        self._append({"update": update, "time": time.time(), kind: dict(content)})
        for name, value in _flatten(content, kind):
            self._writer.add_scalar(name, value, update)
        self.say(f"{kind}: {json.dumps(content)}")

    def image(self, update: int, name: str, picture: np.ndarray) -> None:
        """A picture ``[height, width, 3]`` uint8 for TensorBoard."""
        self._writer.add_image(name, picture, update, dataformats="HWC")

    def say(self, text: str) -> None:
        """A line for people."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._writer.close()

    def _append(self, content: dict[str, Any]) -> None:
        with open(self._jsonl, "a") as file:
            file.write(json.dumps(content) + "\n")

    def _show(self, update: int, means: dict[str, Any]) -> None:
        shown = (
            "loss/decoder",
            "loss/kl",
            "loss/coarse_decoder",
            "loss/coarse_kl",
            "low/context_change",
            "loss/high",
        )
        note = " ".join(
            f"{name.split('/')[-1]} {means[name]:.3g}"
            for name in shown
            if name in means and math.isfinite(means[name])
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=update, note=note)
        else:
            speed = means["updates_per_second"]
            self.say(f"{update}/{self._total} ({speed:.1f}/s) {note}")


def _flatten(content: Mapping[str, Any], path: str) -> list[tuple[str, float]]:
    flat: list[tuple[str, float]] = []
    for name, value in content.items():
        where = f"{path}/{name}"
        if isinstance(value, Mapping):
            flat += _flatten(value, where)
        elif isinstance(value, int | float):
            flat.append((where, float(value)))
    return flat
