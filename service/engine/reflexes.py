"""An act that needs no search, of a session that is alone: answered in one call of its runtime, where that can."""

from __future__ import annotations

import time
from typing import Any

from service.engine.costs import CostModel
from service.engine.delivery import deliver
from service.engine.jobs import ActJob, ActResult, HostedModel
from service.operations.metrics import Metrics


def react(model: HostedModel, job: ActJob, costs: CostModel, metrics: Metrics) -> bool:
    """Answer an act; False, and nothing was done, where it must be observed and planned as others are."""
    runtime: Any = model.runtime
    began = time.monotonic()
    if (
        not hasattr(runtime, "react")
        or job.want_plan
        or job.pondering is not None
        or (job.deadline is not None and job.deadline <= began)
    ):
        return False
    runtime.use_threads(1)
    try:
        found = runtime.react(
            model.slots.row(job.slot),
            job.observation,
            is_first=job.is_first,
            executed_action=job.executed_action,
            settings=job.settings,
        )
        if found is None:
            return False
        (action,) = runtime.decode_action(found.action)
        (slot,) = model.slots.put(found.row[None])
    except Exception:  # the other way will fail, too, and report it
        return False
    costs.record(model, job.settings).plan_took(1, found.observe_s + found.act_s)
    metrics.phase("observe", found.observe_s)
    metrics.phase("high_plan", 0.0)
    metrics.phase("low_plan", found.act_s)
    metrics.budget(1.0)
    result = ActResult(
        action=action,
        slot=slot,
        state=found.row.tobytes(),
        plan=None,
        timing={
            "queue_ms": max(0.0, 1e3 * (began - job.submitted)),
            "observe_ms": 1e3 * found.observe_s,
            "high_plan_ms": 0.0,
            "low_plan_ms": 1e3 * found.act_s,
            "batch_size": 1,
        },
    )
    deliver([(job, result)], model.slots.release)
    return True
