"""Calls as gRPC messages, and gRPC answers as results or errors; for both gRPC clients."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc

from clients import tracing
from clients.calls import Call, is_id, not_finite, out_of_range
from clients.connection import ServiceConnection
from clients.errors import (
    ClientError,
    ConnectionLostError,
    GatewayError,
    NotConnectedError,
    ProxyError,
    UnexpectedAnswerError,
    service_error,
)
from clients.http_wire import ANSWER_LIMITS
from service.protocol import protobuf
from service.protocol.errors import GRPC_PROBLEM_KEY, ProblemError
from service.protocol.generated import planner_pb2 as pb

Result = TypeVar("Result")

HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
"""grpc.health.v1.HealthCheckResponse with status SERVING"""

_TOO_LARGE = "message larger than max"


class NoStreamsError(Exception):
    """What answers has no streams of requests: a cluster's proxy."""


class GrpcWire:
    """Between calls and gRPC."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection
        self.metadata = [(protobuf.TAKES_BYTES, str(ANSWER_LIMITS.body_bytes))]
        if connection.api_key:
            self.metadata.append(("authorization", f"Bearer {connection.api_key}"))

    def channel_arguments(self) -> tuple[str, grpc.ChannelCredentials | None, list[tuple[str, Any]]]:
        """Address, credentials where TLS is used, and options."""
        connection = self.connection
        options: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", -1),  # the server knows what it takes, and says so
            ("grpc.max_receive_message_length", ANSWER_LIMITS.body_bytes),
            ("grpc.keepalive_time_ms", 60_000),  # finds out about a peer that is gone without a word
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.enable_retries", 0),  # this client retries, and knows what may be repeated
            ("grpc.enable_http_proxy", 1 if connection.proxy else 0),
        ]
        if connection.proxy:
            options.append(("grpc.http_proxy", connection.proxy.url))
        credentials = grpc.ssl_channel_credentials(*connection.tls.read()) if connection.secure else None
        return connection.authority, credentials, options

    def sent_along(self, message: Any) -> list[tuple[str, str]]:
        """Metadata of a call: the key, the caller's trace, and which session or dream it is about.

        Args:
            message: the request.
        """
        about = getattr(message, "session_id", "") or getattr(message, "dream_id", "")
        affine = [("session_id", about)] if is_id(about) else []  # as Ray Serve's proxy calls it
        return [*self.metadata, *affine, *tracing.headers().items()]

    def message(self, call: Call[Any], *, traced: bool = False) -> Any:
        """The request of a call; ``traced`` ones hold the caller's trace themselves."""
        kind = getattr(pb, f"{call.rpc}Request")
        if isinstance(call.body, bytes):
            return kind(belief=call.body)
        if (problem := not_finite(call)) is not None:
            raise service_error(self.connection.url, call.asked, problem)
        try:
            message = protobuf.from_dict(kind, {**call.names, **(call.body or {})})
        except ProblemError as wrong:
            raise service_error(self.connection.url, call.asked, wrong) from None
        except (TypeError, ValueError) as error:
            raise (out_of_range(call) or self._refused(call) or error) from None
        if traced:
            for name, value in tracing.headers().items():
                setattr(message, name, value)
        return message

    def _refused(self, call: Call[Any]) -> ClientError | None:
        """What the service says of a call that no message can hold, in its own words; None where it takes it."""
        from service.protocol import requests

        kinds: dict[str, type[requests.Request]] = {
            "CreateSession": requests.CreateSession,
            "ForkSession": requests.Fork,
            "Act": requests.ActOnce,
            "Imagine": requests.ImagineOnce if "model" in (call.body or {}) else requests.Imagine,
            "Dream": requests.CreateDream,
            "DreamStep": requests.DreamStep,
            "ResetDream": requests.ResetDream,
            "ForkDream": requests.Fork,
            "LoadModel": requests.ChooseVersion,
            "UnloadModel": requests.ChooseVersion,
        }
        try:
            requests.parse(kinds[call.rpc], call.body)
        except KeyError:  # it has no body
            return None
        except ProblemError as problem:
            return service_error(self.connection.url, call.asked, problem)
        return None

    def read(self, call: Call[Result], answer: Any) -> Result:
        """The result that an answer holds.

        Raises:
            UnexpectedAnswerError: it is not what the contract says.
        """
        try:
            return call.read(protobuf.to_dict(answer))
        except (ProblemError, KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswerError(
                self.connection.url,
                call.asked,
                f"the answer cannot be read ({type(error).__name__}: {error})",
            ) from error

    def failure(self, call: Call[Any], error: Any) -> ClientError:
        """What a failed call means."""
        status, details, trailing = error.code(), error.details() or "", error.trailing_metadata()
        url, proxy = self.connection.url, self.connection.proxy
        request_id = next((value for key, value in trailing or () if key == "x-request-id"), None)
        if any(key == GRPC_PROBLEM_KEY for key, _ in trailing or ()):
            problem = protobuf.problem_from_status(status.name, details, trailing)
            return service_error(url, call.asked, problem, request_id)
        if "http1" in details:
            reason = (
                "that port speaks HTTP; gRPC has a port of its own (8001 unless --grpc-port says otherwise)"
            )
            return UnexpectedAnswerError(url, call.asked, reason)
        if status == grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in details:
            return self._too_large(call, details, request_id)
        if status == grpc.StatusCode.UNAVAILABLE:
            unknown = "resolv" in details  # the name of a host
            if "proxy" in details.lower() or (proxy and (unknown or "onnect" in details)):
                reason = (
                    f"cannot connect through {proxy}: {details}; NO_PROXY names hosts to be asked directly"
                )
                return ProxyError(url, call.asked, reason)
            if unknown or ("onnect" in details and "reset" not in details.lower()):
                reason = f"cannot connect ({details}); is `thick serve` running there?"
                return NotConnectedError(url, call.asked, reason)
            return ConnectionLostError(url, call.asked, f"the connection broke ({details})")
        if status == grpc.StatusCode.INTERNAL:  # the service itself would have sent its problem along
            reason = f"something on the way failed ({details[:300]})"
            return GatewayError(url, call.asked, reason)
        if status == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ConnectionLostError(url, call.asked, f"no answer within {self.connection.timeout_s:g} s")
        if status in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN):
            return UnexpectedAnswerError(url, call.asked, f"{status.name}: {details}")
        problem = protobuf.problem_from_status(status.name, details, trailing)
        return service_error(url, call.asked, problem, request_id)

    def _too_large(self, call: Call[Any], details: str, request_id: str | None) -> ClientError:
        """A message beyond somebody's bound: asking again would not make it smaller."""
        if details.startswith("CLIENT"):
            limit = f"{ANSWER_LIMITS.body_bytes:,} bytes"
            reason = f"the answer is larger than the {limit} that this client takes ({details})"
            return UnexpectedAnswerError(self.connection.url, call.asked, reason)
        problem = ProblemError("body_too_large", f"the server takes no message of this size ({details})")
        return service_error(self.connection.url, call.asked, problem, request_id)
