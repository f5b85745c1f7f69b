"""Answers about dreams: steps of which some environments began anew, observations one by one, stored answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from service.dreams.dream import Dream
from service.operations.drawing import picture_uri
from service.protocol.arrays import encode_image
from service.protocol.errors import step_conflict
from service.sessions.answers import ActAnswer, replayed
from thick.runtimes.protocol import DreamtStep


def again(dream: Dream, step: int, fingerprint: bytes) -> ActAnswer:
    """The stored answer of the step before."""
    if step == dream.step - 1 and dream.answer is not None:
        if fingerprint == dream.digest:
            return replayed(dream.answer)
        raise step_conflict(
            dream.step,
            step,
            why=f"step {step} was answered to another request; the dream expects step {dream.step}",
        )
    raise step_conflict(
        dream.step, step, why=f"the dream expects step {dream.step}, the request is for step {step}"
    )


def nothing_done(rows: np.ndarray, shown: Any, *, valued: bool) -> DreamtStep:
    """The step of environments that begin anew in place of their action.

    Args:
        rows: as they begin.
        shown: what they look like; None where nobody asked.
        valued: whether values were asked for (there are none here).
    """
    zeros = np.zeros(len(rows), np.float32)
    return DreamtStep(
        rows=rows,
        reward=zeros,
        continuation=zeros + 1,
        terminated=zeros > 0,
        gates_open=zeros.astype(np.int64),
        value=zeros + np.nan if valued else None,
        observation=shown,
    )


def merged(one: DreamtStep, at: np.ndarray, other: DreamtStep, elsewhere: np.ndarray) -> DreamtStep:
    """A step of all environments: of one at the places ``at``, of the other elsewhere."""

    def both(first: Any, second: Any) -> Any:
        if first is None:
            return None
        if isinstance(first, Mapping):
            return {key: both(value, second[key]) for key, value in first.items()}
        whole = np.empty((len(at) + len(elsewhere), *first.shape[1:]), first.dtype)
        whole[at], whole[elsewhere] = first, second
        return whole

    names = [item.name for item in fields(DreamtStep)]
    return DreamtStep(**{name: both(getattr(one, name), getattr(other, name)) for name in names})


SHOWN = frozenset({"observation", "observations", "picture"})
"""parts of an answer that show what environments look like"""


def looks(
    observation: Any, count: int, include: Sequence[str], *, space: Mapping[str, Any], image: str = "raw"
) -> dict[str, Any]:
    """What environments look like, as it was asked for: one by one, in one array, or drawn."""
    shown: dict[str, Any] = {}
    if "observation" in include:
        shown["observation"] = _each(observation, count, image)
    if "picture" in include:
        shown["picture"] = [picture_uri(one, space) for one in _each(observation, count, "raw")]
    if "observations" in include:
        shown["observations"] = observation
    return shown


def _each(observation: Any, count: int, image: str) -> list[Any]:
    """One observation for each environment, as the API has it."""
    if isinstance(observation, Mapping):
        parts = {key: _each(value, count, image) for key, value in observation.items()}
        return [{key: values[index] for key, values in parts.items()} for index in range(count)]
    pictures = observation.ndim == 4 and observation.shape[-1] in (1, 3, 4) and observation.dtype == np.uint8
    if pictures and image != "raw":
        return [encode_image(picture, image) for picture in observation]
    return list(observation)


def some(indices: np.ndarray) -> str:
    shown = ", ".join(map(str, indices[:8]))
    return shown if len(indices) <= 8 else f"{shown} and {len(indices) - 8} more"
