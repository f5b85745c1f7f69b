"""What the clients share: every method of the contract, over whatever carries a :class:`Call`."""

from __future__ import annotations

import abc
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from clients import calls, dream_results, results, tracing
from clients.asynchronous.opening import DreamOpening, SessionOpening, open_dream, open_session
from clients.asynchronous.waiting import sleep
from clients.calls import Call
from clients.connection import ServiceConnection
from clients.errors import ClientError, NotConnectedError, NotFoundError, SessionExpiredError, models_failed
from clients.session_state import EVERYTHING, prepare
from service.protocol.events import Event

Result = TypeVar("Result")


class AsyncClient(abc.ABC):
    """A client of the service, whatever the transport. It may be shared."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    # ---- what a transport does

    @abc.abstractmethod
    async def _send(self, call: Call[Result]) -> Result:
        """Sends a call once."""

    @abc.abstractmethod
    def _stream(self, call: Call[Any]) -> AsyncIterator[Event]:
        """The events of an imagination; errors of the server are raised."""

    @abc.abstractmethod
    async def _picture(self, call: Call[Any], form: str) -> bytes:
        """An imagination as a picture."""

    @abc.abstractmethod
    async def live(self) -> bool:
        """Whether a server runs there."""

    @abc.abstractmethod
    async def ready(self) -> bool:
        """Whether every configured model has loaded and warmed up."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Closes the connections; sessions live on at the server until they expire."""

    async def _run_act(self, session_id: str, call: Call[Result]) -> Result:
        return await self._run(call)

    # ---- the same for all

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def session(
        self,
        model: str,
        *,
        version: str | None = None,
        seed: int | None = None,
        planner: Mapping[str, Any] | None = None,
        ttl_s: float | None = None,
    ) -> SessionOpening:
        """A new session of a model; as a context manager it is deleted at the end.

        Args:
            model: name of the checkpoint.
            version: its version; the newest by default.
            seed: of the session's randomness: the same seed and observations give the same actions.
            planner: overrides for all its acts, such as ``{"method": "flat"}``.
            ttl_s: seconds without use after which it expires.
        """
        return open_session(self, calls.create_session(model, version, seed, planner, ttl_s))

    def attach(self, session_id: str) -> SessionOpening:
        """A session that lives at the server already, at its present step."""
        return open_session(self, calls.get_session(session_id))

    def restore(self, belief: bytes) -> SessionOpening:
        """A session from ``session.belief()``: its next action is the one the original would have taken."""
        return open_session(self, calls.restore_session(belief))

    def dream(
        self,
        model: str | None = None,
        *,
        version: str | None = None,
        count: int = 1,
        seed: int | None = None,
        sample: bool = True,
        observation: Any = None,
        session_id: str | None = None,
        dream_id: str | None = None,
        ttl_s: float | None = None,
    ) -> DreamOpening:
        """A served model as an environment; as a context manager it is deleted at the end.

        It begins from an observation, a session's belief, another dream's present, or (none of these) a start of the
        model's own.

        Args:
            count: environments, stepped together.
            seed: of what is drawn: the same seed and actions lead to the same dream.
            sample: draw what comes; otherwise the most likely comes.
            ttl_s: seconds without use after which it expires.
        """
        shown = None if observation is None else prepare(observation, self.connection.images)
        asked = {"model": model, "version": version, "count": count, "seed": seed, "sample": sample,
                 "observation": shown, "session_id": session_id, "dream_id": dream_id, "ttl_s": ttl_s}  # fmt: skip
        return open_dream(self, calls.create_dream(**asked))

    def attach_dream(self, dream_id: str) -> DreamOpening:
        """A dream that lives at the server already, at its present step."""
        return open_dream(self, calls.get_dream(dream_id))

    async def dreams(self) -> list[dream_results.DreamInfo]:
        """All live dreams, without what they look like."""
        return await self._run(calls.list_dreams())

    async def sessions(self) -> list[results.SessionInfo]:
        """All live sessions that the key may see."""
        return await self._run(calls.list_sessions())

    async def models(self) -> list[results.Model]:
        """All models that the service hosts, with their states."""
        return await self._run(calls.list_models())

    async def model(self, name: str, version: str | None = None) -> results.Model:
        """One model, with spaces, planner defaults, provenance and versions; ``version`` may be an alias."""
        return await self._run(calls.get_model(name, version))

    async def load(self, name: str, version: str | None = None) -> results.Model | None:
        """Loads a model (or a version of it) at the server; needs the admin key and a setting there."""
        return await self._run(calls.control_model(name, version, load=True))

    async def unload(self, name: str, version: str | None = None) -> results.Model | None:
        """Unloads a model; live sessions go on until they end."""
        return await self._run(calls.control_model(name, version, load=False))

    async def act(
        self,
        observation: Any,
        *,
        model: str | None = None,
        session_id: str | None = None,
        version: str | None = None,
        seed: int | None = None,
        step: int | None = None,
        include: Sequence[str] = EVERYTHING,
        **options: Any,
    ) -> results.Decision:
        """One call for a first try: creates the session where none is named, and returns its id.

        Takes the further options of :meth:`AsyncSession.decide`.
        """
        body = calls.act_body(prepare(observation, self.connection.images), include=include, **options)
        named = {"model": model, "session_id": session_id, "version": version, "seed": seed, "step": step}
        return await self._run(calls.act_once({**{k: v for k, v in named.items() if v is not None}, **body}))

    async def imagine(self, observation: Any, *, model: str, **options: Any) -> results.Imagination:
        """What a model expects to happen after an observation; options as :meth:`AsyncSession.imagine`."""
        body = calls.imagine_body({"observation": prepare(observation, self.connection.images), **options})
        return await self._run(calls.imagine_once(await self.model(model), body))

    async def wait_until_ready(self, timeout_s: float = 60.0, *, pause_s: float = 0.1) -> None:
        """Returns once the service is ready.

        Raises:
            ModelsFailedError: it runs, and all its models failed to load; names them with their reasons.
            NotConnectedError: it was not ready after ``timeout_s`` seconds.
        """
        end = time.monotonic() + timeout_s
        while not await self.ready():
            failure = await self._hopeless()
            if failure is not None:
                raise failure
            if time.monotonic() > end:
                state = "it runs, but is not ready" if await self.live() else "nothing answers"
                reason = f"{state} after {timeout_s:g} s{self.connection.way}"
                raise NotConnectedError(self.connection.url, "wait until ready", reason)
            await sleep(pause_s)

    async def _hopeless(self) -> ClientError | None:
        """Why the service will not become ready by waiting, if that is so: all its models failed."""
        try:
            models = await self._send(calls.list_models())
        except ClientError:
            return None  # it cannot be asked, or not with this key: go on waiting
        return models_failed(self.connection.url, models)

    async def _run(self, call: Call[Result]) -> Result:
        """Sends a call, again where that is safe and may help."""
        with tracing.span(call):
            return await self._attempt(call)

    async def _attempt(self, call: Call[Result]) -> Result:
        async for attempt in self.connection.retries.context(call):
            with attempt:
                try:
                    return await self._send(call)
                except NotFoundError:
                    if call.gone_is_done and attempt.num > 1:
                        return call.read({})
                    raise
        raise ClientError(self.connection.url, call.asked, "no attempt was made")

    async def _close_session(self, session_id: str) -> None:
        try:
            await self._run(calls.delete_session(session_id))
        except (NotFoundError, SessionExpiredError):
            return  # it is gone, which is what was wanted
