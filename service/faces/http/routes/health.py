"""Health, for load balancers and for clients of the Open Inference Protocol."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from service.faces.http.contract import documented
from service.faces.http.routes.common import service_of

router = APIRouter(tags=["health"])
_JSON = {"application/json": {"type": "object"}}


@router.get("/health/live", **documented(summary="The process runs", also=_JSON))
@router.get("/v2/health/live", **documented(summary="The process runs", also=_JSON))
async def live() -> Response:
    return JSONResponse({"live": True})


@router.get("/health/ready", **documented(summary="Models are loaded and warm", also=_JSON))
@router.get("/v2/health/ready", **documented(summary="Models are loaded and warm", also=_JSON))
async def ready(request: Request) -> Response:
    service_of(request).check_ready()
    return JSONResponse({"ready": True})


@router.get("/v2", **documented(summary="What this server is", also=_JSON))
async def server() -> Response:
    return JSONResponse({"name": "thick", "version": "1", "extensions": []})


@router.get(
    "/v2/models/{name}/ready", **documented(summary="A model takes sessions", also=_JSON, problems=[404])
)
@router.get(
    "/v2/models/{name}/versions/{version}/ready",
    **documented(summary="A version of a model takes sessions", also=_JSON, problems=[404]),
)
async def model_ready(request: Request, name: str, version: str | None = None) -> Response:
    hosted = service_of(request).repository.for_new_session(name, version)
    return JSONResponse({"name": hosted.name, "version": hosted.version, "ready": True})
