"""The asynchronous HTTP client: the methods of :class:`PlanningClient`, to be awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from clients import calls, results, tracing
from clients.calls import Call
from clients.connection import Connection, Tls
from clients.errors import (
    ClientError,
    ConnectionLostError,
    NotConnectedError,
    NotFoundError,
    SessionExpiredError,
    service_error,
)
from clients.http_client import PICTURES
from clients.http_wire import HttpWire
from clients.retries import Retries
from clients.session import EVERYTHING, SessionState, prepare
from service.protocol import media
from service.protocol.errors import ProblemError
from service.protocol.events import END, ERROR, Event, EventReader

Result = TypeVar("Result")


class AsyncPlanningClient:
    """Asks a THICK service over HTTP from asyncio; arguments as :class:`PlanningClient`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        encoding: str = "msgpack",
        api_key: str | None = None,
        tls: Tls | None = None,
        timeout_s: float = 120.0,
        retries: Retries | None = None,
        images: str | None = None,
    ) -> None:
        self.connection = Connection.to(
            url, schemes=("http", "https"), port=8000, api_key=api_key, tls=tls, timeout_s=timeout_s,
            retries=retries, images=images,
        )  # fmt: skip
        self._wire = HttpWire(self.connection, encoding)
        self._http = httpx.AsyncClient(**self._wire.client_options())

    async def __aenter__(self) -> AsyncPlanningClient:
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
        """A new session: ``await client.session(…)``, or ``async with client.session(…) as session``."""
        return SessionOpening(self, calls.create_session(model, version, seed, planner, ttl_s))

    def attach(self, session_id: str) -> SessionOpening:
        """A session that lives at the server already, at its present step."""
        return SessionOpening(self, calls.get_session(session_id))

    def restore(self, belief: bytes) -> SessionOpening:
        """A session from ``session.belief()``."""
        return SessionOpening(self, calls.restore_session(belief))

    async def sessions(self) -> list[results.SessionInfo]:
        """All live sessions that the key may see."""
        return await self._run(calls.list_sessions())

    async def models(self) -> list[results.Model]:
        """All models that the service hosts, with their states."""
        return await self._run(calls.list_models())

    async def model(self, name: str) -> results.Model:
        """One model, with spaces, planner defaults, provenance and versions."""
        return await self._run(calls.get_model(name))

    async def load(self, name: str, version: str | None = None) -> results.Model | None:
        """Loads a model at the server; needs the admin key and a setting there."""
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
        """One call for a first try: creates the session where none is named and tells its id."""
        body = calls.act_body(prepare(observation, self.connection.images), include=include, **options)
        named = {"model": model, "session_id": session_id, "version": version, "seed": seed, "step": step}
        return await self._run(calls.act_once({**{k: v for k, v in named.items() if v is not None}, **body}))

    async def imagine(self, observation: Any, *, model: str, **options: Any) -> results.Imagination:
        """One call: what a model expects to happen after an observation."""
        body = calls.imagine_body({"observation": prepare(observation, self.connection.images), **options})
        return await self._run(calls.imagine_once(await self.model(model), body))

    async def live(self) -> bool:
        """Whether a server runs there."""
        return await self._healthy("/health/live")

    async def ready(self) -> bool:
        """Whether every configured model has loaded and warmed up."""
        return await self._healthy("/health/ready")

    async def wait_until_ready(self, timeout_s: float = 60.0, *, pause_s: float = 0.1) -> None:
        """Returns once the service is ready; :class:`NotConnectedError` after ``timeout_s`` seconds."""
        end = time.monotonic() + timeout_s
        while not await self.ready():
            if time.monotonic() > end:
                reason = f"not ready after {timeout_s:g} s"
                raise NotConnectedError(self.connection.url, "wait until ready", reason)
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Closes the connections; sessions live on at the server until they expire."""
        await self._http.aclose()

    async def _healthy(self, path: str) -> bool:
        try:
            return (await self._http.get(path, timeout=self.connection.connect_s)).is_success
        except httpx.HTTPError:
            return False  # what cannot be reached is neither live nor ready

    async def _run(self, call: Call[Result]) -> Result:
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

    async def _send(self, call: Call[Result]) -> Result:
        return self._wire.read(call, await self._response(call, None))

    async def _picture(self, call: Call[Any], form: str) -> bytes:
        if form not in PICTURES:
            raise ValueError(f"form: expected one of {', '.join(PICTURES)}, got {form!r}")
        response = await self._response(call, PICTURES[form])
        self._wire.check(call, response)
        return response.content

    async def _response(self, call: Call[Any], accept: str | None) -> httpx.Response:
        try:
            return await self._http.request(**self._wire.request(call, accept))
        except httpx.HTTPError as error:
            raise self._wire.transport_error(call, error) from error

    async def _stream(self, call: Call[Any]) -> AsyncIterator[Event]:
        reader = EventReader()
        try:
            async with self._http.stream(**self._wire.request(call, accept=media.EVENT_STREAM)) as response:
                if not response.is_success:
                    await response.aread()
                self._wire.check(call, response)
                async for line in response.aiter_lines():
                    event = reader.feed(line)
                    if event is None:
                        continue
                    if event.name == ERROR:
                        problem = ProblemError.from_dict(event.data)
                        raise service_error(self.connection.url, call.asked, problem)
                    yield event
                    if event.name == END:
                        return
        except httpx.HTTPError as error:
            raise self._wire.transport_error(call, error) from error
        raise ConnectionLostError(self.connection.url, call.asked, "the stream ended early")


class SessionOpening:
    """A session about to be opened: await it, or use it as an asynchronous context manager."""

    def __init__(self, client: AsyncPlanningClient, call: Call[results.SessionInfo]) -> None:
        self._client = client
        self._call = call
        self._session: AsyncSession | None = None

    def __await__(self) -> Generator[Any, None, AsyncSession]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncSession:
        self._session = await self._open()
        return self._session

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def _open(self) -> AsyncSession:
        return AsyncSession(self._client, await self._client._run(self._call))


class AsyncSession(SessionState):
    """The asynchronous end of a session; methods as :class:`clients.session.Session`."""

    def __init__(self, client: AsyncPlanningClient, info: results.SessionInfo) -> None:
        super().__init__(info, client.connection.images)
        self._client = client
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def act(self, observation: Any, **options: Any) -> results.Action:
        """The action for an observation; ``self.last`` keeps the whole answer."""
        return (await self.decide(observation, **{"include": (), **options})).action

    async def decide(
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
        """The action with its plan and timing; arguments and errors as :meth:`Session.decide`."""
        options = {
            "reward": reward, "is_first": is_first, "executed_action": executed_action, "planner": planner,
            "deadline_ms": deadline_ms, "include": include,
        }  # fmt: skip
        async with self._lock:
            return self._acted(await self._client._run(self._act_call(observation, options)))

    async def imagine(self, **options: Any) -> results.Imagination:
        """What the model expects to happen; changes nothing."""
        return await self._client._run(calls.imagine(self.info, calls.imagine_body(options)))

    async def imagine_stream(self, **options: Any) -> AsyncIterator[results.ImaginedStep]:
        """The steps of :meth:`imagine` one by one, as they are made."""
        read = calls.step_reader(self.info)
        async for event in self._client._stream(calls.imagine(self.info, calls.imagine_body(options))):
            if event.name == END:
                return
            yield read(event.data)

    async def imagine_picture(self, form: str = "png", **options: Any) -> bytes:
        """The imagination as the server draws it: ``png`` or ``gif``."""
        return await self._client._picture(calls.imagine(self.info, calls.imagine_body(options)), form)

    async def reset(self) -> None:
        """The next act starts a new episode, at step 0."""
        async with self._lock:
            await self._client._run(calls.reset_session(self.id))
            self._restarted()

    async def fork(self, seed: int | None = None) -> AsyncSession:
        """Another session with the same belief; the two never affect each other."""
        async with self._lock:
            return AsyncSession(self._client, await self._client._run(calls.fork_session(self.id, seed)))

    async def belief(self) -> bytes:
        """The belief as safetensors, for ``client.restore``."""
        return await self._client._run(calls.export_belief(self.id))

    async def refresh(self) -> results.SessionInfo:
        """Reads the session from the server, its step included."""
        async with self._lock:
            self.info = await self._client._run(calls.get_session(self.id))
            self.step = self.info.step
        return self.info

    async def close(self) -> None:
        """Deletes the session; one that is gone already is fine."""
        try:
            await self._client._run(calls.delete_session(self.id))
        except (NotFoundError, SessionExpiredError):
            return  # it is gone, which is what was wanted
