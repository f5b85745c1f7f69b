"""Logs with request and session ids, and OpenTelemetry spans when a collector is configured."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import structlog

from service.protocol.errors import ProblemError
from service.settings import Settings, SettingsError
from thick.distribution import install_command

_REQUEST: ContextVar[Any] = ContextVar("request span", default=None)
"""the span of the request in progress: the current one may be of a library that traces too"""
_PHASES = ("decode", "queue", "observe", "high_plan", "low_plan", "store")
_SECRET = ("authorization", "key", "token", "password", "secret")


def configure_logging(settings: Settings) -> None:
    """One line an event on stderr, JSON or text, for our own loggers and the libraries' alike."""
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_secrets,
    ]
    renderer: Any
    if as_text:
        # Plain: a traceback that shows local variables would show observations and keys.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    else:
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("thick").setLevel(settings.log_level.upper())
    logging.getLogger("uvicorn.access").disabled = True


def _without_secrets(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """A key never reaches a log, whoever tries to log it."""
    for name in event:
        if any(part in name.lower() for part in _SECRET) and name != "event":
            event[name] = "(hidden)"
    return event


class Tracing:
    """Spans, or nothing at all where no collector is configured."""

    def __init__(self, settings: Settings) -> None:
        self._tracer: Any = None
        self._provider: Any = None
        self._error: Any = None
        if settings.otlp_endpoint is None:
            return
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"--otlp-endpoint needs the Python module {error.name!r}: {install_command('tracing')}"
            ) from error
        provider = TracerProvider(resource=Resource.create({"service.name": "thick"}))
        endpoint = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self.use(provider)

    def use(self, provider: Any) -> None:
        """Send spans to this provider."""
        from opentelemetry.trace import StatusCode

        self._provider = provider
        self._tracer = provider.get_tracer("thick.service")
        self._error = StatusCode.ERROR

    @contextlib.contextmanager
    def request(self, name: str, headers: Mapping[str, str], attributes: Mapping[str, Any]) -> Iterator[None]:
        """A span around a request, a child of the caller's where ``traceparent`` says so.

        A problem is a failure of the span only where it is the server's (500 and above).
        """
        if self._tracer is None:
            yield
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(
            name,
            context=extract(dict(headers)),
            kind=SpanKind.SERVER,
            attributes=dict(attributes),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            token = _REQUEST.set(span)
            try:
                yield
            except ProblemError as problem:
                span.set_attribute("thick.problem", problem.code)
                if problem.status >= 500:
                    span.set_status(self._error, problem.detail)
                raise
            except asyncio.CancelledError:
                span.set_attribute("thick.problem", "cancelled")
                raise
            except Exception as error:
                span.record_exception(error)
                span.set_status(self._error, type(error).__name__)
                raise
            finally:
                _REQUEST.reset(token)

    def answered(self, name: str, status: int) -> None:
        """The running request over HTTP was answered; its route is known by now."""
        span = _REQUEST.get()
        if span is None:
            return
        span.update_name(name)
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(self._error)

    def acted(self, answer: Mapping[str, Any], timing: Mapping[str, float] | None, encode_s: float) -> None:
        """The running request was an act: whose, and a span for each phase, laid end to end as they were
        run.

        Args:
            answer: of the act.
            timing: milliseconds by phase (``Clock.timing``); None where a stored answer was sent again.
            encode_s: seconds that writing the answer took.
        """
        request = _REQUEST.get()
        if request is None:
            return
        from opentelemetry.trace import set_span_in_context

        below = set_span_in_context(request)
        for name in ("session_id", "step", "replayed"):
            request.set_attribute(f"thick.{name}", answer[name])
        if timing is None:
            return
        request.set_attribute("thick.batch_size", int(timing["batch_size"]))
        spent = [(name, 1e-3 * timing[f"{name}_ms"]) for name in _PHASES] + [("encode", encode_s)]
        at = time.time_ns() - int(1e9 * sum(seconds for _, seconds in spent))
        for name, seconds in spent:
            span = self._tracer.start_span(name, context=below, start_time=at)
            at += int(1e9 * seconds)
            span.end(end_time=at)

    def shutdown(self) -> None:
        """Send what is pending."""
        if self._provider is not None:
            self._provider.shutdown()
