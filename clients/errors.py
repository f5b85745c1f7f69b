"""What can go wrong with a request, as exceptions that say host, what was asked and what the server said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from service.protocol.errors import FieldError, ProblemError

if TYPE_CHECKING:
    from clients.results import Model


class ClientError(Exception):
    """Anything that kept a request from being answered.

    Attributes:
        host: where the request went, such as ``http://localhost:8000``.
        asked: what it was for, such as ``act on session 3f2a (step 7)``.
    """

    def __init__(self, host: str, asked: str, reason: str) -> None:
        super().__init__(f"{host}: {asked}: {reason}")
        self.host = host
        self.asked = asked
        self.reason = reason


class NotConnectedError(ClientError):
    """The server cannot be reached: nothing of the request arrived there."""


class ProxyError(NotConnectedError):
    """The proxy that an environment variable names cannot be used, or did not let the request through."""


class ConnectionLostError(ClientError):
    """The connection broke, or the time ran out, after the request was sent: it may have been carried out."""


class UnexpectedAnswerError(ClientError):
    """The server answered something that the contract does not know; often another program listens there."""


class GatewayError(ConnectionLostError, UnexpectedAnswerError):
    """Something between here and the service (a balancer, a cluster's proxy) answered in its place: the request may
    have been carried out."""


class ServiceError(ClientError):
    """The server answered with a problem (RFC 9457).

    Attributes:
        status: HTTP status (the one that corresponds to it over gRPC).
        code: the contract's code, such as ``step_conflict``.
        detail: what the server said.
        errors: the wrong fields, for validation problems.
        retry_after: seconds after which to try again, where the server said so.
        extra: further members of the problem, such as ``expected_step``.
        request_id: the server's id of the request, to be found in its log.
    """

    def __init__(self, host: str, asked: str, problem: ProblemError, request_id: str | None = None) -> None:
        noted = f" (request {request_id})" if request_id else ""
        super().__init__(host, asked, f"{problem.status} {problem.code}: {problem.detail}{noted}")
        self.status = problem.status
        self.code = problem.code
        self.detail = problem.detail
        self.errors: tuple[FieldError, ...] = problem.errors
        self.retry_after = problem.retry_after
        self.extra: dict[str, Any] = problem.extra
        self.request_id = request_id


class InvalidRequestError(ServiceError):
    """422 and similar: the request is wrong and will stay so."""


class AccessError(ServiceError):
    """401, 403: a key is missing, or does not allow this."""


class NotFoundError(ServiceError):
    """404: there is no such model, session or version."""


class SessionExpiredError(ServiceError):
    """410: the session has expired."""


class StepConflictError(ServiceError):
    """409: the step is not the one that the session expects (``expected_step``)."""

    @property
    def expected_step(self) -> int | None:
        """The step that the server expects."""
        value = self.extra.get("expected_step")
        return int(value) if value is not None else None


class BusyError(ServiceError):
    """429, 503: too much load, not ready yet, or shutting down; the same request may succeed later."""


class ModelsFailedError(ServiceError):
    """The service runs, and none of its models could be loaded: waiting does not help; ``detail`` has the reasons."""


class DeadlinePassedError(ServiceError):
    """504, 408: the deadline passed before the request was carried out."""


class ServerFailedError(ServiceError):
    """500: the server failed; its log has the reason under ``request_id``."""


PASSING = (
    ConnectionLostError, BusyError, DeadlinePassedError, ServerFailedError, SessionExpiredError, StepConflictError,
)  # fmt: skip
"""what happened on the way: the same request was right, and may succeed another time"""

_BY_STATUS: dict[int, type[ServiceError]] = {
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    408: DeadlinePassedError,
    409: StepConflictError,
    410: SessionExpiredError,
    429: BusyError,
    503: BusyError,
    504: DeadlinePassedError,
}


def service_error(
    host: str, asked: str, problem: ProblemError, request_id: str | None = None
) -> ServiceError:
    """The exception for a problem, by its status."""
    fallback = InvalidRequestError if 400 <= problem.status < 500 else ServerFailedError
    return _BY_STATUS.get(problem.status, fallback)(host, asked, problem, request_id)


def models_failed(host: str, models: Sequence[Model]) -> ModelsFailedError | None:
    """The error of a service all of whose models failed to load, with their reasons; None where one may serve."""
    if not models or any(model.state != "failed" for model in models):
        return None
    reasons = "; ".join(f"model {each.name} version {each.version} failed: {each.reason}" for each in models)
    problem = ProblemError("model_not_ready", f"no model can be served; {reasons}", state="failed")
    return ModelsFailedError(host, "wait until ready", problem)
