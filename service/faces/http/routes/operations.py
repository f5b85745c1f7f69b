"""What operators look at: metrics for machines, figures for people."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from service.faces.http.bodies import body_type, respond
from service.faces.http.contract import documented
from service.faces.http.routes.common import service_of

router = APIRouter(tags=["operations"])


@router.get("/metrics", **documented(summary="Prometheus metrics", also={"text/plain": {"type": "string"}}))
async def metrics(request: Request) -> Response:
    return Response(service_of(request).metrics.exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.get(
    "/v1/stats",
    **documented(
        summary="Counts and recent latencies, for people",
        also={"application/json": {"type": "object"}, "application/msgpack": {"type": "object"}},
        problems=[406],
    ),
)
async def stats(request: Request) -> Response:
    return respond(service_of(request).stats(), body_type(request))
