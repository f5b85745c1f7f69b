"""What can be known of a run's task before its first step: whether it works, and room for its data."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from thick.data.collect import check_policy
from thick.data.replay import Field
from thick.envs import check
from thick.training.config import TrainConfig

SPARE = 0.9
"""share of the free memory, or disk, that the data of a run may take"""


def check_task(config: TrainConfig) -> None:
    """Plays a few steps of the task.

    Raises:
        ValueError, ImportError: the environment cannot be used; in one line.
    """
    check(config.env, **config.env_options)


def check_prefill(config: TrainConfig, env: gymnasium.Env[Any, Any]) -> None:
    """Raises ValueError where the policy of the prefill cannot play in the environment, or has no such options."""
    data = config.data
    options = data.policy_options if data.prefill_policy == "scripted" else {}  # no other has any
    check_policy(data.prefill_policy, env, config.env, options)


def check_room(config: TrainConfig, fields: dict[str, Field], directory: Path) -> None:
    """Raises ValueError where the steps that a run keeps will find no room."""
    data = config.data
    if data.dataset is not None and data.policy != "agent":
        return
    online = data.policy == "agent"
    step = sum(math.prod(field.shape) * np.dtype(field.dtype).itemsize for field in fields.values())
    least = config.length * data.streams  # a stream holds a sequence
    asked = data.capacity if online else data.prefill
    needed = step * max(asked, least)
    if online or data.on_disk:
        folder = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        free, where, more = shutil.disk_usage(folder).free, f"free on the disk of {folder}", ""
    else:
        free = _memory()
        where, more = "free in memory", ", --data.on_disk true"
    if needed > SPARE * free:
        field = "capacity" if online else "prefill"
        if asked < least:
            raise ValueError(
                f"length: {needed / 1e9:.3g} GB for {data.streams} streams of at least {config.length} steps of "
                f"{step / 1e3:.3g} kB, and {free / 1e9:.3g} GB are {where}: give --length "
                f"{max(1, int(SPARE * free / step / data.streams))} or less, or fewer --data.streams"
            )
        raise ValueError(
            f"data.{field}: {needed / 1e9:.3g} GB for {needed // step} steps of {step / 1e3:.3g} kB, and "
            f"{free / 1e9:.3g} GB are {where}: give --data.{field} {int(SPARE * free / step)} or less{more}, or show "
            "smaller images (--env_options '{resize: 64}')"
        )


def _memory() -> int:
    """Bytes that can be had without swapping; Linux says it, elsewhere there is no limit here."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1 << 62
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else 1 << 62
