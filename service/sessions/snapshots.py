"""A belief as a file: safetensors, with what else the next action depends on in its metadata."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from service.protocol.errors import ProblemError, show
from service.sessions.session import Session
from thick.runtimes.layout import Layout

FORMAT = "thick-belief-1"
METADATA = ("model", "version", "weights", "step", "plan", "random_state", "first", "ttl_s")
"""what the metadata have in addition to the format, all of it text"""
MAX_HEADER_BYTES = 64 * 1024
"""metadata and the places of the tensors; an exported belief takes a few thousand bytes"""

_MAY_BE_INFINITE = (".values", ".visits")
"""ends of names of what is shown to people only, and not finite where nothing was tried"""
_STEPS = (".since", ".taken")
"""ends of names of what counts steps"""
_RENAMED = {f"belief.{name}": f"belief.levels.0.{name}" for name in ("context", "gates")}
"""tensors of files that were written when a belief had one context, or one without numbers"""


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
    ponder_ms: float | None
    ttl_s: float
    leaves: dict[str, np.ndarray]


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
                "ponder_ms": session.ponder_ms,
            }
        ),
        "random_state": json.dumps({"seed": session.seed, "step": session.step}),
        "first": json.dumps(session.first),
        "ttl_s": repr(session.ttl_s),
    }
    return safetensors.numpy.save(leaves, metadata)


def parse(raw: bytes) -> Snapshot:
    """Read an exported belief; its values are validated against the model afterwards.

    Raises:
        ProblemError: ``invalid_belief``.
    """
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > len(raw) - 8:
        raise ProblemError(
            "invalid_belief",
            f"not a whole safetensors file: {len(raw)} bytes, of which the header alone would take {length + 8}",
        )
    if length > MAX_HEADER_BYTES:
        raise ProblemError(
            "invalid_belief", f"a belief's header has at most {MAX_HEADER_BYTES} bytes, this one {length}"
        )
    try:
        leaves = safetensors.numpy.load(raw)
        metadata = json.loads(raw[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ProblemError(
            "invalid_belief", f"not a safetensors file as it was exported: {_reason(error)}"
        ) from error
    if metadata.get("format") != FORMAT:
        raise ProblemError(
            "invalid_belief",
            f"the metadata have {show(metadata.get('format'))} for format, expected {FORMAT!r}",
        )
    if missing := [name for name in METADATA if name not in metadata]:
        raise ProblemError(
            "invalid_belief",
            f"the metadata lack {', '.join(missing)}; a belief has {', '.join(METADATA)}: export it again",
        )
    plan, random_state = _json_object(metadata, "plan"), _json_object(metadata, "random_state")
    deadline_ms, ponder_ms, settings = (plan.get(name) for name in ("deadline_ms", "ponder_ms", "settings"))
    if not isinstance(settings, dict):
        raise _wrong("plan.settings", "an object of planner settings", settings)
    step, seed = metadata["step"], random_state.get("seed")
    if not step.isascii() or not step.isdigit() or len(step) > 18:
        raise _wrong("step", "the number of acts since the reset", step)
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise _wrong("random_state.seed", "a whole number from 0 to 2^63 - 1", seed)
    if metadata["first"] not in ("true", "false"):
        raise _wrong("first", "true or false", metadata["first"])
    leaves = {_RENAMED.get(k, k): x for k, x in leaves.items() if k not in _RENAMED or x.shape[-1:] != (0,)}
    return Snapshot(
        model=metadata["model"],
        version=metadata["version"],
        weights=metadata["weights"],
        step=int(step),
        first=metadata["first"] == "true",
        seed=seed,
        planner=settings,
        deadline_ms=None if deadline_ms is None else _positive("plan.deadline_ms", deadline_ms, 1e30),
        ponder_ms=None if ponder_ms is None else _positive("plan.ponder_ms", ponder_ms, 1e30),
        ttl_s=_positive("ttl_s", metadata["ttl_s"], 1e12),
        leaves=leaves,
    )


def row_of(snapshot: Snapshot, layout: Layout) -> bytes:
    """The row for the slot table, after checking every tensor: nothing in it may reach an index unchecked.

    Raises:
        ProblemError: ``invalid_belief``, naming the tensor.
    """
    try:
        row = layout.join(snapshot.leaves)
    except ValueError as error:
        raise ProblemError("invalid_belief", str(error)) from error
    for name, array in snapshot.leaves.items():
        if array.dtype.kind == "f" and not name.endswith(_MAY_BE_INFINITE) and not np.isfinite(array).all():
            raise ProblemError("invalid_belief", f"{name} holds numbers that are not finite")
    for name, count in snapshot.leaves.items():
        if name.endswith(_STEPS) and count.size and not 0 <= int(count.min()) <= int(count.max()) < 2**40:
            raise ProblemError("invalid_belief", f"{name}: expected a number of steps")
    stoch, logits = snapshot.leaves.get("belief.stoch"), snapshot.leaves.get("belief.logits")
    if stoch is not None and logits is not None and stoch.size:
        classes = logits.shape[-1]
        if int(stoch.min()) < -1 or int(stoch.max()) >= classes:
            raise ProblemError("invalid_belief", f"belief.stoch: expected classes from -1 to {classes - 1}")
    return row


def _json_object(metadata: dict[str, str], name: str) -> dict[str, Any]:
    try:
        value = json.loads(metadata[name])
    except (ValueError, RecursionError):
        value = metadata[name]
    if not isinstance(value, dict):
        raise _wrong(name, "a JSON object", value)
    return value


def _positive(name: str, value: Any, below: float) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if not 0 < number < below:
        raise _wrong(name, "a positive number", value)
    return number


def _wrong(name: str, expected: str, got: Any) -> ProblemError:
    return ProblemError(
        "invalid_belief", f"the metadata have {show(got)} for {name}, expected {expected}: export it again"
    )


def _reason(error: Exception) -> str:
    """What the reader of the format has against it, without the names of Python's and Rust's classes."""
    text = (
        str(error)
        .removeprefix("Error while deserializing: ")
        .removeprefix("Error while deserializing header: ")
    )
    return text[:200]
