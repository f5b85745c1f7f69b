"""Where a run says what it does: a progress bar or lines, ``metrics.jsonl`` and TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from thick.progress import Screen, Task


class RunLog:
    """Collects scalars between two lines and writes their means.

    Args:
        directory: the run's folder.
        total: number of updates, for the bar.
        done: updates done before (resumed runs go on in the same files).
        state: of :meth:`state` in the checkpoint that the run goes on from. What was logged after it is cut off: it
            will be logged again.
    """

    def __init__(
        self, directory: Path, *, total: int, done: int = 0, state: Mapping[str, Any] | None = None
    ) -> None:
        self._jsonl = directory / "metrics.jsonl"
        # A group of scalars that came together -> their sums, and how often they came.
        self._sums: dict[tuple[str, ...], tuple[Tensor, int]] = {}
        if state is not None:
            for group in state["sums"]:
                sums = torch.tensor(group["sums"], dtype=torch.float64)
                self._sums[tuple(group["names"])] = (sums, group["count"])
            if self._jsonl.is_file():
                os.truncate(self._jsonl, min(state["bytes"], self._jsonl.stat().st_size))
        self._writer = SummaryWriter(directory / "tensorboard", purge_step=done + 1 if done else None)
        self._since = time.monotonic()
        self._last = done
        self.screen = Screen()
        self._bar: Task | None = None
        self._total = total

    def state(self) -> dict[str, Any]:
        """What was collected since the last line, and how long the log is; as JSON."""
        return {
            "sums": [
                {"names": list(names), "sums": sums.tolist(), "count": count}
                for names, (sums, count) in self._sums.items()
            ],
            "bytes": self._jsonl.stat().st_size if self._jsonl.is_file() else 0,
        }

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Remember scalars until the next :meth:`write`; they stay on their device until then."""
        names = tuple(values)
        stacked = torch.stack([value.detach().double().reshape(()) for value in _together(values)])
        before = self._sums.get(names)
        self._sums[names] = (
            (stacked, 1) if before is None else (before[0].to(stacked.device) + stacked, before[1] + 1)
        )

    def write(self, update: int, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One line with the means since the last one."""
        now = time.monotonic()
        means: dict[str, Any] = self._means() | dict(extra or {})
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
        self.screen.say(text)

    def close(self) -> None:
        """Close the files; nothing can be logged any more."""
        self.screen.close()
        with contextlib.suppress(OSError):  # a full disk was reported already
            self._writer.close()

    def _means(self) -> dict[str, float]:
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        for names, (values, count) in self._sums.items():
            for name, value in zip(names, values.tolist(), strict=True):
                sums[name] += value
                counts[name] += count
        return {name: sums[name] / counts[name] for name in sorted(sums)}

    def _append(self, content: dict[str, Any]) -> None:
        with open(self._jsonl, "a") as file:
            file.write(json.dumps(content) + "\n")

    def _show(self, update: int, means: dict[str, Any]) -> None:
        shown = (
            "world/decoder",
            "world/kl",
            "world/coarse_decoder",
            "world/coarse_kl",
            "world/context_change",
            "level1/loss",
            "behaviour/return",
        )
        note = " ".join(
            f"{name.split('/')[-1]} {means[name]:.3g}"
            for name in shown
            if name in means and math.isfinite(means[name])
        )
        if self.screen.bars is None:
            speed = means["updates_per_second"]
            self.say(f"{update}/{self._total} ({speed:.1f}/s) {note}")
            return
        if self._bar is None:
            self._bar = self.screen.task("training", self._total, done=update)
        self._bar(update, note)


def _flatten(content: Mapping[str, Any], path: str) -> list[tuple[str, float]]:
    flat: list[tuple[str, float]] = []
    for name, value in content.items():
        where = f"{path}/{name}"
        if isinstance(value, Mapping):
            flat += _flatten(value, where)
        elif isinstance(value, int | float):
            flat.append((where, float(value)))
    return flat


def _together(values: Mapping[str, Tensor]) -> list[Tensor]:
    """The scalars on one device: the weights of schedules are made on the CPU whatever the model's device is."""
    elsewhere = [value.device for value in values.values() if value.device.type != "cpu"]
    return [value.to(elsewhere[0]) if elsewhere else value for value in values.values()]
