"""The least that a server over each transport can do: decode the body of an act, let the engine act, and answer.

    python benchmarks/serving/echo_app.py --models DIR --port P --grpc-port G

A bare FastAPI endpoint and bare grpc.aio methods, which take the very bodies that the service takes. No session, no
check, no store, one belief for all: what the service takes beyond it is the service's own. The engine is the
service's, for two reasons. Who answers at once flatters itself: its client has not gone to sleep yet, and waking a
processor takes a part of what is measured here. And a model leaves nothing else in the processor's caches: whatever
runs after it, a web framework too, takes longer than after a loop that only waits.

``POST /work`` gives what the engine took in every act since it was asked last, in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import msgpack
import numpy as np
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.serving.forms import array
from service.engine.engine import Engine
from service.engine.jobs import ActJob
from service.models.hosted import Hosted
from service.models.warmup import prepare
from service.operations.metrics import Metrics
from service.protocol.generated import planner_pb2 as pb
from thick.planning.settings import session_key
from thick.runtimes.backends import open_runtime

MSGPACK = "application/msgpack"
MODEL, METHOD = "image", "policy"
"""what every request runs"""


class Actor:
    """One belief that acts."""

    def __init__(self, engine: Engine, hosted: Hosted) -> None:
        self._engine, self._hosted = engine, hosted
        self._settings = hosted.runtime.settings({"method": METHOD})
        self._slot, self._step = hosted.slots.retain(hosted.initial_slot), 0
        self._took: list[float] = []

    @classmethod
    async def of(cls, models: Path) -> Actor:
        """An actor with a model of a repository."""
        engine = Engine(metrics=Metrics(), threads=1)
        engine.start()
        entry = sorted((models / MODEL).iterdir())[-1]
        hosted = Hosted(MODEL, entry.name, entry)
        await prepare(hosted, open_runtime(entry), engine)
        return cls(engine, hosted)

    async def act(self, observation: np.ndarray) -> list[float]:
        """The next action."""
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        job = ActJob(
            model=self._hosted,
            loop=loop,
            future=loop.create_future(),
            slot=self._slot,
            observation=observation,
            is_first=self._step == 0,
            settings=self._settings,
            key=session_key(0, self._step),
        )
        result = await self._engine.submit(job)
        self._hosted.slots.release(self._slot)
        self._slot, self._step = result.slot, self._step + 1
        self._took.append(time.perf_counter() - began)
        return result.action.tolist()

    def took(self) -> list[float]:
        """What the acts took since the last call, s."""
        took, self._took = self._took, []
        return took

    async def stop(self) -> None:
        """End the engine."""
        await self._engine.stop()


def application(actor: Actor) -> FastAPI:
    """HTTP: JSON and msgpack."""
    app = FastAPI()

    @app.post("/v1/sessions/{session_id}/act")
    async def act(request: Request, session_id: str) -> Response:
        body = await request.body()
        packed = request.headers.get("content-type") == MSGPACK
        asked: dict[str, Any] = msgpack.unpackb(body) if packed else json.loads(body)
        answer = {
            "session_id": session_id,
            "step": asked["step"],
            "action": await actor.act(array(asked["observation"])),
            "replayed": False,
        }
        if packed:
            return Response(msgpack.packb(answer), media_type=MSGPACK)
        return Response(json.dumps(answer), media_type="application/json")

    @app.post("/work")
    async def work() -> list[float]:
        return actor.took()

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"ready": True}

    return app


class Methods:
    """gRPC: ``Act`` and ``ActStream``."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    async def act(self, request: pb.ActRequest, context: grpc.aio.ServicerContext) -> pb.ActResponse:
        sent = request.observation.array
        action = await self._actor.act(np.frombuffer(sent.data, sent.dtype).reshape(sent.shape))
        packed = pb.Array(dtype="float32", shape=[len(action)], data=np.array(action, np.float32).tobytes())
        return pb.ActResponse(
            session_id=request.session_id, step=request.step, action=pb.Action(array=packed)
        )

    async def act_stream(
        self, requests: AsyncIterator[pb.ActRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ActResponse]:
        async for request in requests:
            yield await self.act(request, context)


async def serve(models: Path, port: int, grpc_port: int) -> None:
    """Both servers on one event loop, as the service has them."""
    actor = await Actor.of(models)
    methods = Methods(actor)
    coding = {
        "request_deserializer": pb.ActRequest.FromString,
        "response_serializer": pb.ActResponse.SerializeToString,
    }
    handlers = {
        "Act": grpc.unary_unary_rpc_method_handler(methods.act, **coding),
        "ActStream": grpc.stream_stream_rpc_method_handler(methods.act_stream, **coding),
    }
    over_grpc = grpc.aio.server()
    over_grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("thick.v1.Planner", handlers),))
    over_grpc.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await over_grpc.start()
    config = uvicorn.Config(
        application(actor), host="127.0.0.1", port=port, access_log=False, log_level="warning"
    )
    await uvicorn.Server(config).serve()
    await over_grpc.stop(0)
    await actor.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    given = parser.parse_args()
    # As uvicorn and the service take it where it is installed.
    uvloop.run(serve(given.models, given.port, given.grpc_port))


if __name__ == "__main__":
    main()
