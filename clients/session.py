# Written by scripts/sync_clients.py from clients/asynchronous/session.py: change that one, and run the script.
"""A session: one agent's belief in one environment, held by the server; this is the client's end of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clients import calls, results
from clients.block import Block
from clients.carrier import Carrier
from clients.realtime import Realtime
from clients.session_state import EVERYTHING, SessionState
from clients.waiting import Lock
from service.protocol.events import END


class Session(Block, SessionState):
    """A session over HTTP or gRPC; use it as a context manager, which deletes it at the end.

    It may be shared: its acts then happen one after the other.
    """

    def __init__(self, client: Carrier, info: results.SessionInfo) -> None:
        super().__init__(info, client.connection.images)
        self._client = client
        self._lock = Lock()

    def act(self, observation: Any, **options: Any) -> results.Action:
        """The action for an observation: an int (Discrete) or an array (Box).

        Takes the options of :meth:`decide`; ``self.last`` keeps the whole answer.
        """
        return (self.decide(observation, **{"include": (), **options})).action

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
            return self._acted(self._client._run_act(self.id, self._act_call(observation, options)))

    def realtime(self, hz: float, **options: Any) -> Realtime:
        """A control loop at a fixed rate, which has an action at every tick, whether or not the service answered::

            with session.realtime(hz=20) as loop:
                while True:
                    loop.next_tick()
                    tick = loop.act(robot.observe())
                    robot.do(tick.action)  # tick.source: "plan", "tail" or "hold"

        A late answer is made up for by the next action of the last plan. The newest observation is sent, old ones
        never; the server gets what was really done. After an outage the loop goes on with the session where it is.

        Args:
            hz: ticks a second.
            options: ``tail`` (8), actions of a plan used at most after its own tick; ``hold``, what to do when it is
                used up (the last action); ``on_exhausted``, called then with the ticks since the last answer;
                ``answer_within`` (0.8), the share of a tick that an answer is waited for; ``planner``, overrides;
                ``delay``, seconds that each answer is held back, to try what a slow network does.

        Raises:
            ValueError: an option is wrong.
        """
        return Realtime(self, hz=hz, **options)

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
        """The imagination as the server draws it: a sheet (``png``, ``webp``) or a film (``gif``); HTTP only."""
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
            return self._refreshed(self._client._run(calls.get_session(self.id)))

    def close(self) -> None:
        """Deletes the session; one that is gone already is fine."""
        with self._lock:
            self._client._close_session(self.id)
