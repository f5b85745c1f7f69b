"""A belief as a file: safetensors, with what else the next action depends on in its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from service.protocol.errors import ProblemError
from service.sessions import Session
from service.slots import Layout

FORMAT = "thick-belief-1"

_MAY_BE_INFINITE = ("plan.values", "plan.visits")
"""shown to people only, and not finite where nothing was tried"""


@dataclass(frozen=True)
class Snapshot:
    """A belief that was exported, as read back."""

    model: str
    version: str
    weights: str
    step: int
    first: bool
    seed: int
    planner: dict[str, Any]
    deadline_ms: float | None
    ttl_s: float
    leaves: dict[str, Tensor]


def export(session: Session, layout: Layout, row: bytes) -> bytes:
    """The belief of a session as a safetensors file.

    The metadata has ``format``, ``model``, ``version``, ``weights`` (SHA-256), ``step``, ``plan`` (which
    tensors hold the running plan, and the session's planner settings) and ``random_state``.
    """
    leaves = layout.split(row)
    metadata = {
        "format": FORMAT,
        "model": session.model,
        "version": session.version,
        "weights": session.weights,
        "step": str(session.step),
        "plan": json.dumps(
            {
                "tensors": [name for name in leaves if name.startswith("plan.")],
                "settings": session.planner,
                "deadline_ms": session.deadline_ms,
            }
        ),
        "random_state": json.dumps({"seed": session.seed, "step": session.step}),
        "first": json.dumps(session.first),
        "ttl_s": repr(session.ttl_s),
    }
    return safetensors.torch.save(leaves, metadata)


def parse(raw: bytes) -> Snapshot:
    """Read an exported belief; what its values are is checked against the model afterwards.

    Raises:
        ProblemError: ``invalid_belief``.
    """
    try:
        leaves = safetensors.torch.load(raw)
        length = int.from_bytes(raw[:8], "little")
        metadata = json.loads(raw[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ProblemError("invalid_belief", f"not a safetensors file: {str(error)[:200]}") from error
    if metadata.get("format") != FORMAT:
        raise ProblemError(
            "invalid_belief",
            f"the metadata have format {str(metadata.get('format'))[:40]!r}, expected {FORMAT!r}",
        )
    try:
        plan = json.loads(metadata["plan"])
        random_state = json.loads(metadata["random_state"])
        snapshot = Snapshot(
            model=str(metadata["model"]),
            version=str(metadata["version"]),
            weights=str(metadata["weights"]),
            step=int(metadata["step"]),
            first=bool(json.loads(metadata["first"])),
            seed=_whole(random_state["seed"]),
            planner=dict(plan["settings"]),
            deadline_ms=None if plan["deadline_ms"] is None else float(plan["deadline_ms"]),
            ttl_s=float(metadata["ttl_s"]),
            leaves=leaves,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ProblemError("invalid_belief", f"the metadata are not complete: {str(error)[:200]}") from error
    if not 0 <= snapshot.step < 2**62 or not 0 < snapshot.ttl_s < 1e12:
        raise ProblemError("invalid_belief", "the metadata have a step or a ttl_s that no session has")
    return snapshot


def row_of(snapshot: Snapshot, layout: Layout) -> bytes:
    """The row for the slot table, after checking every tensor: nothing in it may reach an index unchecked.

    Raises:
        ProblemError: ``invalid_belief``, naming the tensor.
    """
    try:
        row = layout.join(snapshot.leaves)
    except ValueError as error:
        raise ProblemError("invalid_belief", str(error)) from error
    for name, tensor in snapshot.leaves.items():
        if tensor.is_floating_point() and name not in _MAY_BE_INFINITE and not bool(tensor.isfinite().all()):
            raise ProblemError("invalid_belief", f"{name} holds numbers that are not finite")
    for name in ("plan.since", "plan.taken"):
        count = snapshot.leaves.get(name)
        if count is not None and count.numel() and not 0 <= int(count.min()) <= int(count.max()) < 2**40:
            raise ProblemError("invalid_belief", f"{name}: expected a number of steps")
    stoch, logits = snapshot.leaves.get("belief.stoch"), snapshot.leaves.get("belief.logits")
    if stoch is not None and logits is not None and stoch.numel():
        classes = logits.shape[-1]
        if int(stoch.min()) < -1 or int(stoch.max()) >= classes:
            raise ProblemError("invalid_belief", f"belief.stoch: expected classes from -1 to {classes - 1}")
    return row


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"seed: expected a whole number, got {str(value)[:40]}")
    return value
