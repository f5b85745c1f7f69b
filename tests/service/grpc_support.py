"""A service over gRPC in this process, and somebody who asks it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from service.core import PlanningService
from service.faces.grpc.server import GrpcServer
from service.operations.tracing import Tracing
from service.protocol import protobuf
from service.protocol.bodies import decode_arrays
from service.protocol.errors import ProblemError
from service.protocol.generated import planner_pb2 as pb
from service.protocol.generated.planner_pb2_grpc import PlannerStub

Metadata = tuple[tuple[str, str], ...]


class OverGrpc:
    """Asks with the trees that JSON would carry, and reads answers as such."""

    def __init__(self, channel: Any, server: GrpcServer) -> None:
        self.channel = channel
        self.server = server
        self.stub: Any = PlannerStub(channel)  # type: ignore[no-untyped-call]

    def call(self, method: str, tree: Any = None, *, metadata: Metadata = (), **options: Any) -> Any:
        """The call itself, begun."""
        kind = getattr(pb, method.removesuffix("Stream") + "Request")
        return getattr(self.stub, method)(protobuf.from_dict(kind, tree or {}), metadata=metadata, **options)

    async def ask(self, method: str, tree: Any = None, **options: Any) -> Any:
        """The answer of a method that takes one message and gives one, arrays as arrays."""
        return decode_arrays(protobuf.to_dict(await self.call(method, tree, **options)))

    async def refused(self, method: str, tree: Any = None, **options: Any) -> tuple[str, ProblemError]:
        """Name of the status, and problem, of a call that must fail."""
        try:
            answer = await self.ask(method, tree, **options)
        except grpc.aio.AioRpcError as error:
            return failure(error)
        raise AssertionError(f"{method} was answered: {answer}")

    async def session(self, model: str = "arm", **fields: Any) -> str:
        """The id of a new session."""
        view = await self.ask("CreateSession", {"model": model, "seed": 3, **fields})
        return str(view["session_id"])

    async def act(self, session_id: str, observation: Any, **fields: Any) -> dict[str, Any]:
        """One act's answer."""
        answer: dict[str, Any] = await self.ask(
            "Act", {"session_id": session_id, "observation": observation, **fields}
        )
        return answer

    def stream(self, **options: Any) -> Any:
        """An ``ActStream`` that is open."""
        return self.stub.ActStream(**options)


def act_request(**fields: Any) -> pb.ActRequest:
    """One message of an ``ActStream``."""
    return protobuf.from_dict(pb.ActRequest, fields)


def failure(error: grpc.aio.AioRpcError) -> tuple[str, ProblemError]:
    """What a failed call tells."""
    trailing = error.trailing_metadata()
    return error.code().name, protobuf.problem_from_status(error.code().name, error.details(), trailing)


@contextlib.asynccontextmanager
async def over_grpc(
    service: PlanningService, *, tracing: Tracing | None = None, credentials: Any = None
) -> AsyncIterator[OverGrpc]:
    """A gRPC server of a service on a free port, and a client of it."""
    server = GrpcServer(service.settings.model_copy(update={"grpc_port": 0}))
    await server.start(service, tracing or Tracing(service.settings))
    address = f"127.0.0.1:{server.port}"
    # Each test has a connection of its own.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.aio.insecure_channel(address, options)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, options)
    )
    try:
        async with channel:
            yield OverGrpc(channel, server)
    finally:
        await server.stop(0)
