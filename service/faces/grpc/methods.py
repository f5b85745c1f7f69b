"""The methods of ``thick.v1.Planner``: messages in and out of the calls that HTTP makes too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from service.core import Clock, Imagination, PlanningService
from service.faces.envelope import name_session
from service.faces.grpc.gate import TRACE_CONTEXT, Asked, Context, Gate
from service.operations.keys import require_admin
from service.operations.offloop import LARGE, off_loop
from service.protocol import protobuf
from service.protocol.bodies import check_tree
from service.protocol.errors import ProblemError, invalid
from service.protocol.events import END, STEP, Event
from service.protocol.generated import planner_pb2 as pb
from service.protocol.limits import Limits
from service.protocol.protobuf import TAKES_BYTES
from service.protocol.protobuf_acts import answer_to_message, read_act
from service.protocol.protobuf_parts import count_parts

Answer = Callable[[Any, Asked], Awaitable[Any]]
"""from the tree of a request to the tree of its answer"""
Acted = Callable[[Any, Clock], Awaitable[Any]]
"""from the tree of a request to the message of its answer"""


class Methods:
    """Every method of the service, as gRPC handlers.

    Messages are parsed here instead of by gRPC, so that one that cannot be read is answered with a problem
    as everything else, and the time it takes is counted.
    """

    def __init__(self, service: PlanningService, gate: Gate) -> None:
        self._service = service
        self._gate = gate
        self._idle: set[asyncio.Task[Any]] = set()
        self._unfinished: set[asyncio.Task[Any]] = set()

    def handler(self) -> Any:
        """For ``grpc.aio.Server.add_generic_rpc_handlers``."""
        return grpc.method_handlers_generic_handler(protobuf.SERVICE_NAME, self.handlers())

    def handlers(self) -> dict[str, Any]:
        """The handler of each method, by its name."""
        single: dict[str, Answer] = {
            "ListModels": self._list_models,
            "GetModel": self._get_model,
            "LoadModel": self._load_model,
            "UnloadModel": self._unload_model,
            "CreateSession": self._create_session,
            "GetSession": self._get_session,
            "ListSessions": self._list_sessions,
            "DeleteSession": self._delete_session,
            "ResetSession": self._reset_session,
            "ForkSession": self._fork_session,
            "ExportBelief": self._export_belief,
            "RestoreSession": self._restore_session,
            "Imagine": self._imagine,
            "Dream": self._dream,
            "DreamStep": self._dream_step,
            "GetDream": self._get_dream,
            "ListDreams": self._list_dreams,
            "ResetDream": self._reset_dream,
            "ForkDream": self._fork_dream,
            "DeleteDream": self._delete_dream,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._single(name, answer))
            for name, answer in single.items()
        }
        handlers["Act"] = grpc.unary_unary_rpc_method_handler(self._act)
        handlers["ActStream"] = grpc.stream_stream_rpc_method_handler(self._act_stream)
        handlers["DreamStepStream"] = grpc.stream_stream_rpc_method_handler(self._dream_step_stream)
        handlers["ImagineStream"] = grpc.unary_stream_rpc_method_handler(self._imagine_stream)
        return handlers

    def end_idle_streams(self) -> None:
        """End the streams that wait for their client's next act."""
        for task in list(self._idle):
            task.cancel()

    # -- models and sessions -----------------------------------------------------------------------------

    async def _list_models(self, tree: Any, asked: Asked) -> Any:
        return self._service.list_models()

    async def _get_model(self, tree: Any, asked: Asked) -> Any:
        return self._service.get_model(tree["name"], tree.get("version"))

    async def _load_model(self, tree: Any, asked: Asked) -> Any:
        require_admin(asked.role, self._service.settings, key_sent=asked.key_sent)
        return await self._whole(lambda: self._service.load_model(tree["name"], tree.get("version")))

    async def _unload_model(self, tree: Any, asked: Asked) -> Any:
        require_admin(asked.role, self._service.settings, key_sent=asked.key_sent)
        with self._service.working():
            return self._service.unload_model(tree["name"], tree.get("version"))

    async def _create_session(self, tree: Any, asked: Asked) -> Any:
        return await self._whole(lambda: self._service.lifecycle.create(tree))

    async def _restore_session(self, tree: Any, asked: Asked) -> Any:
        return await self._whole(lambda: self._service.lifecycle.restore(tree["belief"]))

    async def _get_session(self, tree: Any, asked: Asked) -> Any:
        return await self._service.lifecycle.get(_session_id(tree))

    async def _list_sessions(self, tree: Any, asked: Asked) -> Any:
        listed = await self._service.lifecycle.listed()
        return {"sessions": [_shown(session) for session in listed["sessions"]]}

    async def _delete_session(self, tree: Any, asked: Asked) -> Any:
        session_id = _session_id(tree)
        await self._whole(lambda: self._service.lifecycle.delete(session_id))
        return {}

    async def _reset_session(self, tree: Any, asked: Asked) -> Any:
        session_id = _session_id(tree)
        return await self._whole(lambda: self._service.lifecycle.reset(session_id))

    async def _fork_session(self, tree: Any, asked: Asked) -> Any:
        session_id, body = _session_id(tree), _without(tree, "session_id")
        return await self._whole(lambda: self._service.lifecycle.fork(session_id, body))

    async def _export_belief(self, tree: Any, asked: Asked) -> Any:
        with self._service.working():
            return {"data": await self._service.lifecycle.export(_session_id(tree))}

    async def _whole(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do something that changes the service; a client that goes away meanwhile does not stop it
        half-way."""

        async def run() -> Any:
            with self._service.working():
                return await work()

        task = asyncio.create_task(run())
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)

    # -- act ---------------------------------------------------------------------------------------------

    async def _act(self, raw: bytes, context: Context) -> bytes:
        async def answer(asked: Asked) -> bytes:
            clock = Clock(asked.arrived)
            response = await self._acted(await self._read("Act", raw, clock), clock)
            return self._pack(response, asked)

        return await self._gate.unary("Act", context, answer)

    async def _act_stream(self, _: Any, context: Context) -> None:
        """Acts of one session, each begun when the one before it was answered."""
        await self._stream("ActStream", "Act", "session_id", self._acted, context)

    async def _stream(self, name: str, message: str, key: str, acted: Acted, context: Context) -> None:
        """Requests about one session or dream, each begun when the one before it was answered.

        Args:
            message: the unary method that takes the same requests.
            key: the field that names what the stream is about.
        """
        what = key.removesuffix("_id")

        async def answer(asked: Asked) -> None:
            known: str | None = None
            while (raw := await self._next(context)) is not grpc.aio.EOF:
                clock = Clock()
                tree = await self._read(message, raw, clock)
                with self._gate.request(asked.traced(tree), context):
                    if known is not None and tree.setdefault(key, known) != known:
                        raise invalid(key, f"this stream is of {what} {known!r} alone")
                    response = await acted(tree, clock)
                    known = getattr(response, key)
                    await context.write(self._pack(response, asked))

        await self._gate.stream(name, context, answer)

    async def _next(self, context: Context) -> Any:
        """The next message of a stream, or ``EOF``.

        Raises:
            ProblemError: ``draining``, where the server stops while the stream is idle.
        """
        task = asyncio.current_task()
        assert task is not None
        self._idle.add(task)
        try:
            return await context.read()
        except asyncio.CancelledError:
            if self._service.draining and not context.cancelled():
                task.uncancel()
                raise ProblemError(
                    "draining", "the server is shutting down; open the stream on another one", retry_after=5.0
                ) from None
            raise
        finally:
            self._idle.discard(task)

    async def _acted(self, tree: Any, clock: Clock) -> pb.ActResponse:
        if "session_id" in tree:
            name_session(tree["session_id"])
        with self._service.working():
            for name in TRACE_CONTEXT:
                tree.pop(name, None)
            answer = await self._service.act_once(tree, clock)
        began = time.perf_counter()
        response = answer_to_message(answer)
        self._gate.envelope.acted(answer, clock, time.perf_counter() - began)
        return response

    # -- imagine -----------------------------------------------------------------------------------------

    async def _imagine(self, tree: Any, asked: Asked) -> Any:
        with self._service.working():
            return await (await self._begin_imagining(tree, asked.large)).whole()

    async def _imagine_stream(self, raw: bytes, context: Context) -> None:
        async def answer(asked: Asked) -> None:
            with self._gate.request(asked, context):
                tree = await self._read("ImagineStream", raw, Clock())
                with self._service.working():
                    begun = await self._begin_imagining(tree, len(raw) > LARGE)
                    await self._write_steps(begun, asked, context)

        await self._gate.stream("ImagineStream", context, answer)

    async def _begin_imagining(self, tree: Any, large: bool) -> Imagination:
        if "session_id" in tree:
            return await self._service.imagine(_session_id(tree), _without(tree, "session_id"))
        return await self._service.imagine_once(tree, large)

    async def _write_steps(self, imagination: Imagination, asked: Asked, context: Context) -> None:
        events = imagination.events()
        try:
            async for step in events:
                await context.write(self._pack(protobuf.event_to_message(Event(STEP, step)), asked))
            end = protobuf.event_to_message(Event(END, imagination.end()))
            await context.write(self._pack(end, asked))
        finally:
            await events.aclose()  # type: ignore[attr-defined]
            imagination.close()

    # -- dreams ------------------------------------------------------------------------------------------

    async def _dream(self, tree: Any, asked: Asked) -> Any:
        return await self._whole(lambda: self._service.dreaming.create(tree))

    async def _dream_step(self, tree: Any, asked: Asked) -> Any:
        return await self._dreamt(tree)

    async def _dreamt(self, tree: Any) -> Any:
        if "dream_id" not in tree:
            raise invalid("dream_id", "is missing")
        dream_id, body = tree["dream_id"], _without(tree, "dream_id", *TRACE_CONTEXT)
        with self._service.working():
            return await self._service.dreaming.step(dream_id, body)

    async def _dream_step_stream(self, _: Any, context: Context) -> None:
        async def stepped(tree: Any, clock: Clock) -> pb.DreamStepResponse:
            return protobuf.from_dict(pb.DreamStepResponse, await self._dreamt(tree))

        await self._stream("DreamStepStream", "DreamStep", "dream_id", stepped, context)

    async def _get_dream(self, tree: Any, asked: Asked) -> Any:
        return await self._whole(lambda: self._service.dreaming.get(tree["dream_id"]))

    async def _list_dreams(self, tree: Any, asked: Asked) -> Any:
        return {"dreams": [_shown(dream) for dream in (await self._service.dreaming.listed())["dreams"]]}

    async def _reset_dream(self, tree: Any, asked: Asked) -> Any:
        body = _without(tree, "dream_id")
        return await self._whole(lambda: self._service.dreaming.reset(tree["dream_id"], body))

    async def _fork_dream(self, tree: Any, asked: Asked) -> Any:
        body = _without(tree, "dream_id")
        return await self._whole(lambda: self._service.dreaming.fork(tree["dream_id"], body))

    async def _delete_dream(self, tree: Any, asked: Asked) -> Any:
        await self._whole(lambda: self._service.dreaming.delete(tree["dream_id"]))
        return {}

    # -- messages ----------------------------------------------------------------------------------------

    def _single(self, name: str, answer: Answer) -> Callable[[bytes, Context], Awaitable[bytes]]:
        """The handler of a method that takes one message and gives one."""
        kind = getattr(pb, _METHODS[name].output_type.name)

        async def handle(raw: bytes, context: Context) -> bytes:
            async def call(asked: Asked) -> bytes:
                made = await self._read(name, raw, Clock())
                tree = await answer(made, replace(asked, large=len(raw) > LARGE))
                message = protobuf.from_dict(
                    kind, _shown(tree) if kind in (pb.Session, pb.DreamResponse) else tree
                )
                return self._pack(message, asked)

            return await self._gate.unary(name, context, call)

        return handle

    def _pack(self, message: Any, asked: Asked) -> bytes:
        """The bytes of an answer. Where they are more than the client takes, gRPC would fail in the client without
        a word on what to do.

        Raises:
            ProblemError: ``answer_too_large``.
        """
        packed: bytes = message.SerializeToString()
        most = self._service.settings.grpc_answer_bytes if asked.takes is None else asked.takes
        if most and len(packed) > most:
            method = asked.path.rpartition("/")[2]
            raise ProblemError(
                "answer_too_large",
                f"the answer has {len(packed)} bytes, the client takes {most}: set its "
                f"grpc.max_receive_message_length and say so in the metadata {TAKES_BYTES}"
                f"{_ADVICE.get(method, '')}",
                answer_bytes=len(packed),
            )
        return packed

    async def _read(self, name: str, raw: bytes, clock: Clock) -> Any:
        """The tree of a request.

        Raises:
            ProblemError: ``body_too_large``, ``malformed_body``, ``invalid_request``.
        """
        limits = self._service.limits
        most = limits.belief_bytes if name == "RestoreSession" else limits.body_bytes
        if len(raw) > most + _ENVELOPE:
            raise ProblemError("body_too_large", f"a message has at most {most} bytes here, got {len(raw)}")
        began = time.perf_counter()
        kind = _METHODS[name].input_type
        clock.large = len(raw) > LARGE
        tree = await off_loop(_decode, raw, kind, limits) if clock.large else _decode(raw, kind, limits)
        clock.decode_s = time.perf_counter() - began
        return tree


def _decode(raw: bytes, kind: Descriptor, limits: Limits) -> Any:
    if len(raw) > limits.containers and count_parts(raw, kind, limits.containers) > limits.containers:
        raise ProblemError(
            "malformed_body", f"a message has at most {limits.containers} fields, this one more"
        )
    try:
        message = getattr(pb, kind.name).FromString(raw)
        tree = read_act(message) if kind is _ACT else protobuf.to_dict(message)
    except DecodeError as error:
        raise ProblemError("malformed_body", f"the message is not a thick.v1.{kind.name}") from error
    check_tree(tree, limits)
    return tree


def _session_id(tree: Any) -> str:
    session_id = str(tree["session_id"])
    name_session(session_id)
    return session_id


def _without(tree: Any, *names: str) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in names}


def _shown(session: dict[str, Any]) -> dict[str, Any]:
    """A session whose model is not loaded shows no spaces."""
    return {key: value for key, value in session.items() if not key.endswith("_space") or value}


_ENVELOPE = 1024
"""bytes of a message in addition to what its limit is about"""

_ADVICE = {
    "Act": "; the act is done: the same step again is answered from the store",
    "ActStream": "; the act is done: the same step again is answered from the store",
    "Imagine": "; or ask ImagineStream, which sends a step at a time, for pictures as png or webp, or for less",
    "ImagineStream": "; or ask for pictures as png or webp",
}
"""what else a client can do about an answer that is too large"""

_ACT = pb.ActRequest.DESCRIPTOR
_METHODS = pb.DESCRIPTOR.services_by_name["Planner"].methods_by_name
