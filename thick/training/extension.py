"""A run that goes on longer than it was to, and what that does to its schedules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from thick.training.config import TrainConfig, check_stop

CHANGEABLE = ("updates", "stop")
"""what may change when a run goes on: everything else would make it another run"""


def extended(config: TrainConfig, changes: Mapping[str, Any], done: int) -> tuple[TrainConfig, list[str]]:
    """The configuration of a run that goes on to another end.

    Args:
        config: of the run so far.
        changes: new values of :data:`CHANGEABLE`.
        done: updates that were made.

    Returns:
        The configuration, and sentences on what changes.

    Raises:
        ValueError: something else is to change, or the run is past its new end already.
    """
    for name, value in changes.items():
        if name not in CHANGEABLE:
            raise ValueError(
                f"{name}: a run goes on as it was configured; only {' and '.join(CHANGEABLE)} can change. A new run "
                "can start from its weights: --init RUN"
            )
        if value <= done and not (name == "stop" and value == 0):
            raise ValueError(f"{name}: the run has made {done} updates already, expected more, got {value}")
    new = dataclasses.replace(config, **dict[str, Any](changes))
    if "updates" in changes and "stop" not in changes and not done < new.stop <= new.updates:
        new = dataclasses.replace(new, stop=0)
    check_stop(new)
    end = new.stop or new.updates
    before = min(config.updates, config.stop or config.updates)
    notes = [f"the run goes on from update {done} to {end}; before, it ended at {before}"]
    if new.updates != config.updates and config.optimizer.decay != 1:
        old, after = (c.optimizer.rate(1.0, done, c.updates) for c in (config, new))
        notes.append(
            f"the learning rates fall over {new.updates} updates now: at update {done} they are {after:.3g} of what "
            f"they were at first, not {old:.3g}"
        )
    ramps = [name for name in ("sparsity", "kl") if getattr(new, name).ramp_to > done]
    if ramps:
        notes.append(f"the schedule of {' and '.join(ramps)} counts its own updates and stays as it is")
    return new, notes
