"""``/ui``: the page and what it loads. It has nothing from elsewhere, and asks the API as any client does."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, RedirectResponse, Response

from service.protocol.errors import ProblemError

router = APIRouter(include_in_schema=False)

PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


@router.get("/ui")
async def ui(request: Request) -> Response:
    """To the page: its addresses are relative to a folder."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/ui/", status_code=307)


@router.get("/ui/")
async def page() -> Response:
    """The page itself."""
    return _file("index.html")


@router.get("/ui/{name}")
async def part(request: Request, name: str) -> Response:
    """What the page loads."""
    if name not in {path.name for path in PAGE.iterdir()}:
        raise ProblemError("not_found", f"GET {request.url.path}: the page has no such part")
    return _file(name)


def _file(name: str) -> Response:
    return FileResponse(PAGE / name, media_type=_TYPES[Path(name).suffix], headers=_HEADERS)
