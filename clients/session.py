"""A session: one agent's belief in one environment, held by the server; this is the client's end of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clients import calls, results
from clients.calls import Call
from service.protocol.arrays import EncodedImage, encode_image
from service.protocol.events import END
from service.protocol.spaces import Space

if TYPE_CHECKING:
    from clients.base import SyncClient

EVERYTHING = ("plan", "timing")


class SessionState:
    """What a session knows on the client's side, whatever the transport."""

    def __init__(self, info: results.SessionInfo, images: str | None) -> None:
        self.info = info
        self.step = info.step
        """the step of the next act"""
        self.last: results.Decision | None = None
        """the last answer to an act"""
        self._images = images

    @property
    def id(self) -> str:
        """The server's name of the session."""
        return self.info.session_id

    @property
    def observation_space(self) -> Space:
        """What observations must look like."""
        return self.info.observation_space

    @property
    def action_space(self) -> Space:
        """What actions look like."""
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

    def _restarted(self) -> None:
        self.step = 0
        self.last = None


class Session(SessionState):
    """A session over HTTP or gRPC; use it as a context manager, which deletes it at the end.

    Threads may share it: acts then happen one after the other.
    """

    def __init__(self, client: SyncClient, info: results.SessionInfo) -> None:
        super().__init__(info, client.connection.images)
        self._client = client
        self._lock = threading.RLock()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def act(self, observation: Any, **options: Any) -> results.Action:
        """The action for an observation: an int (Discrete) or an array (Box).

        Takes the options of :meth:`decide`; ``self.last`` keeps the whole answer.
        """
        return self.decide(observation, **{"include": (), **options}).action

    def decide(
        self,
        observation: Any,
        *,
        reward: float | None = None,
        is_first: bool | None = None,
        executed_action: results.Action | None = None,
        planner: Mapping[str, Any] | None = None,
        deadline_ms: float | None = None,
        include: Sequence[str] = EVERYTHING,
    ) -> results.Decision:
        """The action with its plan and timing.

        Args:
            observation: one array, or a dict of arrays for a Dict space.
            reward: that came with the observation.
            is_first: whether the observation starts an episode (:meth:`reset` says so too).
            executed_action: what was really done last, where it was not the last answer.
            planner: overrides for this act, such as ``{"method": "flat", "samples": 200}``.
            deadline_ms: bound on the whole request; the best plan so far is answered.
            include: ``"plan"``, ``"timing"``, both or neither.

        Raises:
            ServiceError: the server refused (its subclasses say why).
            ClientError: it could not be reached. The same act may be tried again: steps are exactly-once.
        """
        options = {
            "reward": reward, "is_first": is_first, "executed_action": executed_action, "planner": planner,
            "deadline_ms": deadline_ms, "include": include,
        }  # fmt: skip
        with self._lock:
            return self._acted(self._client._run_act(self, self._act_call(observation, options)))

    def imagine(self, **options: Any) -> results.Imagination:
        """What the model expects to happen; changes nothing.

        Args:
            options: ``level`` (``"high"``, ``"low"``), ``horizon``, ``rollouts``, ``actions``, ``policy``
                (``"plan"``, ``"prior"``, ``"actor"``, ``"all"``), ``include``, ``image``, ``planner`` and
                ``seed``, as docs/client.md explains them.
        """
        return self._client._run(calls.imagine(self.info, calls.imagine_body(options)))

    def imagine_stream(self, **options: Any) -> Iterator[results.ImaginedStep]:
        """The steps of :meth:`imagine`, as they are made; each knows its ``rollout`` and ``index``."""
        call = calls.imagine(self.info, calls.imagine_body(options))
        read = calls.step_reader(self.info)
        for event in self._client._stream(call):
            if event.name == END:
                return
            yield read(event.data)

    def imagine_picture(self, form: str = "png", **options: Any) -> bytes:
        """The imagination as the server draws it: a sheet (``png``) or a film (``gif``); HTTP only."""
        return self._client._picture(calls.imagine(self.info, calls.imagine_body(options)), form)

    def reset(self) -> None:
        """The next act starts a new episode, at step 0."""
        with self._lock:
            self._client._run(calls.reset_session(self.id))
            self._restarted()

    def fork(self, seed: int | None = None) -> Session:
        """Another session with the same belief; the two never affect each other."""
        with self._lock:
            info = self._client._run(calls.fork_session(self.id, seed))
        return Session(self._client, info)

    def belief(self) -> bytes:
        """The belief as safetensors, for ``client.restore``."""
        return self._client._run(calls.export_belief(self.id))

    def refresh(self) -> results.SessionInfo:
        """Reads the session from the server, its step included."""
        with self._lock:
            self.info = self._client._run(calls.get_session(self.id))
            self.step = self.info.step
        return self.info

    def close(self) -> None:
        """Deletes the session; one that is gone already is fine."""
        with self._lock:
            self._client._close_session(self)


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
