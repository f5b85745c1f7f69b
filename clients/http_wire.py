"""Calls as HTTP requests, and HTTP responses as results or errors; for both HTTP clients."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx

from clients import tracing
from clients.calls import Call, not_finite, out_of_range
from clients.connection import ServiceConnection
from clients.errors import (
    ClientError,
    ConnectionLostError,
    GatewayError,
    ModelsFailedError,
    NotConnectedError,
    ProxyError,
    UnexpectedAnswerError,
    service_error,
)
from service.protocol import media
from service.protocol.bodies import decode_body, encode_body
from service.protocol.errors import ProblemError
from service.protocol.limits import Limits

Result = TypeVar("Result")

# What a server sends is trusted more than what it receives, but not without bounds.
ANSWER_LIMITS = Limits(
    body_bytes=2**30, string_bytes=2**30, array_bytes=2**30, nesting=64, containers=2**30, values=2**30
)

LIVE, READY = "/health/live", "/health/ready"

PICTURES = {"png": media.PNG, "gif": media.GIF, "webp": media.WEBP}
"""what the server draws imaginations as"""

_GATEWAYS = (500, 502, 503, 504)
"""what stands between answers where the service went away; its own answers of these statuses are problems"""
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class HttpWire:
    """Between calls and httpx."""

    def __init__(self, connection: ServiceConnection, encoding: str) -> None:
        known = {"msgpack": media.MSGPACK, "json": media.JSON}
        if encoding not in known:
            raise ValueError(f"encoding: expected msgpack or json, got {encoding!r}")
        self.connection = connection
        self.media_type = known[encoding]
        self._url = functools.lru_cache(maxsize=1024)(self._whole_url)

    def client_options(self) -> dict[str, Any]:
        """For ``httpx.Client`` and ``httpx.AsyncClient``."""
        connection = self.connection
        headers = {"User-Agent": "thick-client"}
        if connection.api_key:
            headers["Authorization"] = f"Bearer {connection.api_key}"
        return {
            "base_url": connection.url,
            "headers": headers,
            "timeout": httpx.Timeout(connection.timeout_s, connect=connection.connect_s),
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=128),
            "verify": connection.tls.context() if connection.secure else False,
            "trust_env": False,  # httpx takes much of what people write there for an error
            "proxy": self._proxy(),
        }

    def _proxy(self) -> httpx.Proxy | None:
        proxy = self.connection.proxy
        try:
            return httpx.Proxy(proxy.url) if proxy else None
        except (httpx.InvalidURL, ValueError) as error:
            raise ProxyError(self.connection.url, "find the proxy", f"{proxy}: {error}") from None

    def _whole_url(self, path: str) -> httpx.URL:
        """Where a path is: httpx reads an address that is text, and joins it with the service's, at every request."""
        base = httpx.URL(self.connection.url)
        return base.copy_with(
            raw_path=base.raw_path.rstrip(b"/") + b"/" + httpx.URL(path).raw_path.lstrip(b"/")
        )

    def request(self, call: Call[Any], accept: str | None = None) -> dict[str, Any]:
        """For ``client.request`` and ``client.stream``."""
        headers = {"Accept": f"{accept or self.media_type}, {media.PROBLEM_JSON}", **tracing.headers()}
        if call.about is not None:
            headers["X-Session-Id"] = call.about
        content: bytes | None = None
        if isinstance(call.body, bytes):
            content, headers["Content-Type"] = call.body, media.OCTET_STREAM
        elif call.verb == "POST":
            if (problem := not_finite(call)) is not None:
                raise service_error(self.connection.url, call.asked, problem)
            try:
                content, headers["Content-Type"] = (
                    encode_body(call.body or {}, self.media_type),
                    self.media_type,
                )
            except OverflowError as error:
                raise (out_of_range(call) or error) from None
        return {"method": call.verb, "url": self._url(call.path), "headers": headers, "content": content}

    def read(self, call: Call[Result], response: httpx.Response) -> Result:
        """The result that a response holds.

        Raises:
            ServiceError: the server answered with a problem.
            UnexpectedAnswerError: it answered something else that the contract does not know.
        """
        self.check(call, response)
        kind = media.essence(response.headers.get("content-type"))
        try:
            if kind in media.BODY_TYPES:
                return call.read(decode_body(response.content, kind, ANSWER_LIMITS))
            return call.read(response.content if kind == media.OCTET_STREAM else {})
        except (ProblemError, KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswerError(
                self.connection.url,
                call.asked,
                f"the answer cannot be read ({type(error).__name__}: {error})",
            ) from error

    def check(self, call: Call[Any], response: httpx.Response) -> None:
        """Raises the error that a response reports, if it does; its body must have been read."""
        if response.is_success:
            return
        request_id = response.headers.get("x-request-id")
        problem = _problem(response)
        if problem is None:
            text = response.text[:200].strip() or "an empty body"
            reason = (
                f"HTTP {response.status_code}{self.connection.way}, and not as the contract says it: {text}"
            )
            between = response.status_code in _GATEWAYS
            raise (GatewayError if between else UnexpectedAnswerError)(
                self.connection.url, call.asked, reason
            )
        raise service_error(self.connection.url, call.asked, problem, request_id)

    def models_failed(self, response: httpx.Response) -> ClientError | None:
        """The error of a service all of whose models failed to load, from its answer about being ready."""
        problem = None if response.is_success else _problem(response)
        if problem is None or problem.extra.get("state") != "failed":
            return None
        return ModelsFailedError(self.connection.url, "wait until ready", problem)

    def transport_error(self, call: Call[Any], error: httpx.HTTPError) -> ClientError:
        """What a failure below HTTP means for the call."""
        url, proxy = self.connection.url, self.connection.proxy
        if isinstance(error, httpx.ProxyError) or (proxy and isinstance(error, _UNSENT)):
            said = error or type(error).__name__
            reason = f"cannot connect through {proxy}: {said}; NO_PROXY names hosts to be asked directly"
            return ProxyError(url, call.asked, reason)
        if isinstance(error, _UNSENT):
            reason = f"cannot connect ({error or type(error).__name__}); is `thick serve` running there?"
            if "WRONG_VERSION_NUMBER" in reason:
                reason = (
                    f"cannot connect ({error}); does it speak plain HTTP? Then the URL begins with http://"
                )
            return NotConnectedError(url, call.asked, reason)
        if isinstance(error, httpx.TimeoutException):
            return ConnectionLostError(url, call.asked, f"no answer within {self.connection.timeout_s:g} s")
        if isinstance(error, httpx.RemoteProtocolError) and str(error).startswith("illegal"):
            reason = f"what answers there is no HTTP ({error}); the port of gRPC (8001) is for the clients over gRPC"
            return UnexpectedAnswerError(url, call.asked, reason)
        return ConnectionLostError(url, call.asked, f"the connection broke ({error or type(error).__name__})")


def _problem(response: httpx.Response) -> ProblemError | None:
    if media.essence(response.headers.get("content-type")) not in (media.PROBLEM_JSON, media.JSON):
        return None
    try:
        tree = json.loads(response.content)
    except ValueError:
        return None
    if not isinstance(tree, Mapping) or not ({"code", "status", "detail"} & tree.keys()):
        return None
    problem = ProblemError.from_dict({"status": response.status_code, **tree})
    if problem.retry_after is not None or not problem.kind.retry:
        header = response.headers.get("retry-after", "")
        if header.replace(".", "", 1).isdigit():
            problem.retry_after = float(header)
    return problem
