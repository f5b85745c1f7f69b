"""The least that a server over each transport can do: decode the body of an act, look at its numbers, and answer.

    python benchmarks/serving/echo_app.py --port P --grpc-port G

A bare FastAPI endpoint and bare grpc.aio methods, which take the very bodies that the service takes. No session, no
model, no check, no store: what the service takes beyond it is the service's own. In place of a model each request
keeps the thread busy for as long as ``POST /busy/{us}`` said. Who answers at once flatters itself: its client has
not gone to sleep yet, and waking a processor takes a part of what is measured here.
"""

from __future__ import annotations

import argparse
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
from service.protocol.generated import planner_pb2 as pb

MSGPACK = "application/msgpack"


def application() -> FastAPI:
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
            "action": action_of(array(asked["observation"])),
            "replayed": False,
        }
        if packed:
            return Response(msgpack.packb(answer), media_type=MSGPACK)
        return Response(json.dumps(answer), media_type="application/json")

    @app.post("/busy/{us}")
    async def busy(us: int) -> dict[str, float]:
        global BUSY
        BUSY = us / 1e6
        return {"busy_s": BUSY}

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"ready": True}

    return app


BUSY = 0.0
"""how long each request takes in place of a model, s"""


def action_of(observation: np.ndarray) -> int:
    """An action that needs the observation's numbers, after as long as a model would take."""
    end = time.perf_counter() + BUSY
    while time.perf_counter() < end:
        pass
    return int(observation.flat[0]) % 2


def answered(request: pb.ActRequest) -> pb.ActResponse:
    """The answer to an act over gRPC."""
    sent = request.observation.array
    observation = np.frombuffer(sent.data, sent.dtype).reshape(sent.shape)
    return pb.ActResponse(
        session_id=request.session_id, step=request.step, action=pb.Action(discrete=action_of(observation))
    )


async def act_once(request: pb.ActRequest, context: grpc.aio.ServicerContext) -> pb.ActResponse:
    """``Act``"""
    return answered(request)


async def act_stream(
    requests: AsyncIterator[pb.ActRequest], context: grpc.aio.ServicerContext
) -> AsyncIterator[pb.ActResponse]:
    """``ActStream``"""
    async for request in requests:
        yield answered(request)


async def serve(port: int, grpc_port: int) -> None:
    """Both servers on one event loop, as the service has them."""
    coding = {
        "request_deserializer": pb.ActRequest.FromString,
        "response_serializer": pb.ActResponse.SerializeToString,
    }
    methods = {
        "Act": grpc.unary_unary_rpc_method_handler(act_once, **coding),
        "ActStream": grpc.stream_stream_rpc_method_handler(act_stream, **coding),
    }
    over_grpc = grpc.aio.server()
    over_grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("thick.v1.Planner", methods),))
    over_grpc.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await over_grpc.start()
    config = uvicorn.Config(application(), host="127.0.0.1", port=port, access_log=False, log_level="warning")
    await uvicorn.Server(config).serve()
    await over_grpc.stop(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.grpc_port))  # as uvicorn and the service take it where it is installed


if __name__ == "__main__":
    main()
