"""``/v1/models``"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.faces.http.bodies import body_type, respond
from service.faces.http.contract import documented
from service.faces.http.routes.common import body_of, service_of
from service.operations.keys import require_admin
from service.protocol.errors import invalid, show
from service.protocol.requests import ChooseVersion, parse
from service.protocol.responses import ModelDetail, ModelList

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", **documented(summary="Models and their state", answer=ModelList, problems=[406]))
async def list_models(request: Request) -> Response:
    return respond(service_of(request).list_models(), body_type(request))


@router.get(
    "/{name}",
    **documented(summary="One model: spaces, planner, provenance", answer=ModelDetail, problems=[404, 406]),
)
async def get_model(request: Request, name: str) -> Response:
    return respond(
        service_of(request).get_model(name, request.query_params.get("version")), body_type(request)
    )


@router.post(
    "/{name}/load",
    **documented(
        summary="Load a version (admin)",
        body=ChooseVersion,
        body_required=False,
        answer=ModelDetail,
        problems=[404, 406, 408, 409, 413, 415, 422],
    ),
)
async def load_model(request: Request, name: str) -> Response:
    service = service_of(request)
    _admin_only(request)
    with service.working():
        return respond(await service.load_model(name, await _version(request)), body_type(request))


@router.post(
    "/{name}/unload",
    **documented(
        summary="Take no new sessions on a version (admin)",
        body=ChooseVersion,
        body_required=False,
        answer=ModelDetail,
        problems=[404, 406, 408, 409, 413, 415, 422],
    ),
)
async def unload_model(request: Request, name: str) -> Response:
    service = service_of(request)
    _admin_only(request)
    with service.working():
        return respond(service.unload_model(name, await _version(request)), body_type(request))


def _admin_only(request: Request) -> None:
    sent = bool(request.headers.get("authorization"))
    require_admin(request.state.role, service_of(request).settings, key_sent=sent)


async def _version(request: Request) -> str | None:
    """``{"version"?}``, or ``?version=``, as where a model is looked at."""
    version = parse(ChooseVersion, (await body_of(request, optional=True)).tree).version
    asked = request.query_params.get("version")
    if version is not None and asked is not None and version != asked:
        raise invalid("version", f"the body says {show(version)}, the query {show(asked)}; send one of them")
    return asked if version is None else version
