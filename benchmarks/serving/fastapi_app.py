"""The same models behind a plain FastAPI application: one request at a time on one thread off the event
loop, JSON or msgpack.

    python benchmarks/serving/fastapi_app.py --models DIR --port P

No batching, no check of the input, no exactly-once, no store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import uvicorn
from fastapi import FastAPI, Request, Response

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.serving.forms import array, plain
from benchmarks.serving.recurrent import Policies

MSGPACK = "application/msgpack"


def application(repository: Path, threads: int) -> FastAPI:
    """The whole service."""
    app = FastAPI()
    policies = Policies(repository, threads)
    worker = ThreadPoolExecutor(1)

    def step(request: dict[str, Any]) -> Any:
        return plain(policies.act([{**request, "observation": array(request["observation"])}])[0])

    @app.post("/act")
    async def act(request: Request) -> Response:
        body = await request.body()
        packed = request.headers.get("content-type") == MSGPACK
        asked = msgpack.unpackb(body) if packed else json.loads(body)
        answer = {"action": await asyncio.get_running_loop().run_in_executor(worker, step, asked)}
        if packed:
            return Response(msgpack.packb(answer), media_type=MSGPACK)
        return Response(json.dumps(answer), media_type="application/json")

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"ready": True}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    app = application(given.models, given.threads)
    uvicorn.run(app, host="127.0.0.1", port=given.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
