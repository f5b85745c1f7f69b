"""The contract for people and programs: ``/docs`` (Swagger UI, from this machine) and ``/openapi.json``."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, JSONResponse, Response

from service.protocol.errors import ProblemError

router = APIRouter(include_in_schema=False)

_STATIC = Path(fastapi_offline.__file__).parent / "static"
_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
"""what the page loads, and nothing else of that folder"""
_OPTIONS = {"validatorUrl": None}  # which would send the document's address to a validator on the internet


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The OpenAPI document; its ``servers`` say where this request reached the service."""
    document = request.app.openapi()
    return JSONResponse({**document, "servers": [{"url": _root(request) or "/"}]})


@router.get("/docs")
@router.get("/docs/")
async def docs(request: Request) -> Response:
    """The document as a page to read and to try."""
    root = _root(request)
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title=request.app.title,
        swagger_js_url=f"{root}/docs/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/docs/swagger-ui.css",
        swagger_favicon_url=f"{root}/docs/favicon.png",
        swagger_ui_parameters=_OPTIONS,
    )


@router.get("/docs/{name}")
async def docs_file(request: Request, name: str) -> Response:
    """What the page loads."""
    if name not in _FILES:
        raise ProblemError("not_found", f"GET {request.url.path}: the page /docs has {', '.join(_FILES)}")
    headers = {"cache-control": "public, max-age=86400"}
    return FileResponse(_STATIC / name, media_type=_FILES[name], headers=headers)


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))
