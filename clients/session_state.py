"""What a session knows on the client's side, whatever the transport and however it waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clients import calls, results
from clients.calls import Call
from service.protocol.arrays import EncodedImage, encode_image
from thick.spaces import Space

EVERYTHING = ("plan", "timing")


@dataclass
class _Place:
    """Where the client stands in a session; one for all copies of it."""

    step: int
    last: results.Decision | None = None


class SessionState:
    """The server's description of a session, and where the client stands in it."""

    def __init__(self, info: results.SessionInfo, images: str | None) -> None:
        self.info = info
        self._place = _Place(info.step)
        self._images = images

    @property
    def step(self) -> int:
        """The step of the next act."""
        return self._place.step

    @step.setter
    def step(self, step: int) -> None:
        self._place.step = step

    @property
    def last(self) -> results.Decision | None:
        """The last answer to an act."""
        return self._place.last

    @last.setter
    def last(self, decision: results.Decision | None) -> None:
        self._place.last = decision

    @property
    def id(self) -> str:
        """The server's name of the session."""
        return self.info.session_id

    @property
    def observation_space(self) -> Space | None:
        """What observations must look like; None where the server did not know when the session was attached."""
        return self.info.observation_space

    @property
    def action_space(self) -> Space | None:
        """What actions look like; None likewise."""
        return self.info.action_space

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.info.model} {self.info.version}, step {self.step}>"

    def _act_call(self, observation: Any, options: Mapping[str, Any]) -> Call[results.Decision]:
        body = calls.act_body(prepare(observation, self._images), **options)
        return calls.act(self.info, self.step, body)

    def _acted(self, decision: results.Decision) -> results.Decision:
        self.step = decision.step + 1
        self.last = decision
        return decision

    def _refreshed(self, info: results.SessionInfo) -> results.SessionInfo:
        self.info = replace(
            info,
            observation_space=info.observation_space or self.info.observation_space,
            action_space=info.action_space or self.info.action_space,
        )
        self.step = info.step
        return self.info

    def _restarted(self) -> None:
        self.step = 0
        self.last = None


def prepare(observation: Any, images: str | None) -> Any:
    """Arrays for everything, pictures encoded where that was asked for."""
    if isinstance(observation, Mapping):
        return {key: prepare(value, images) for key, value in observation.items()}
    if observation is None or isinstance(observation, (str, int, float, EncodedImage)):
        return observation
    array = np.asarray(observation)
    if images and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] in (1, 3, 4):
        return encode_image(array, images)
    return array
