"""Problems as each transport reports them: a response (RFC 9457), the end of a gRPC call, a text on a WebSocket."""

from __future__ import annotations

from typing import Any

import grpc
from starlette.responses import Response

from service.protocol import media
from service.protocol.errors import ProblemError
from service.protocol.protobuf import problem_metadata


def internal(request_id: str = "") -> ProblemError:
    """What a client learns of a failure of ours: where its reason can be found, and nothing of the reason."""
    if not request_id:
        return ProblemError("internal", "the service failed; its log has the reason")
    detail = "the service failed; its log has the reason under the request_id"
    return ProblemError("internal", detail, request_id=request_id)


def http_response(problem: ProblemError, instance: str, *, request_id: str = "") -> Response:
    """A problem over HTTP; always JSON, whatever the client accepts."""
    headers = {}
    if problem.code == "request_timeout":
        # What is still missing of the body must not pass for the next request.
        headers["connection"] = "close"
    if problem.retry_after is not None:
        headers["retry-after"] = str(max(1, round(problem.retry_after)))
    if problem.status == 401:
        headers["www-authenticate"] = 'Bearer realm="thick"'
    if problem.status == 405 and "allow" in problem.extra:
        headers["allow"] = str(problem.extra["allow"])
    if request_id and problem.status >= 500:
        problem.extra.setdefault("request_id", request_id)
    return Response(problem.to_json(instance), problem.status, headers, media_type=media.PROBLEM_JSON)


async def end_call(
    context: grpc.aio.ServicerContext, problem: ProblemError, path: str, *more: tuple[str, str]
) -> None:
    """End a gRPC call with a problem: the status, its text, and the whole problem in the trailing metadata.

    A client's retry policy reads from ``grpc-retry-pushback-ms`` when to try again, as over HTTP from
    ``Retry-After``.
    """
    trailing: list[tuple[str, Any]] = [*problem_metadata(problem, path), *more]
    if problem.retry_after is not None:
        trailing.append(("grpc-retry-pushback-ms", str(round(1e3 * problem.retry_after))))
    await context.abort(getattr(grpc.StatusCode, problem.grpc_status), problem.detail[:1000], tuple(trailing))


def as_text(problem: ProblemError, path: str) -> str:
    """A problem as a text message."""
    return problem.to_json(path).decode()
