"""Logs with request and session ids, and OpenTelemetry spans when a collector is configured."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from service.settings import Settings, SettingsError

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
        if settings.otlp_endpoint is None:
            return
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"--otlp-endpoint needs the Python module {error.name!r}; pip install -e '.[tracing]'"
            ) from error
        provider = TracerProvider(resource=Resource.create({"service.name": "thick"}))
        endpoint = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self.use(provider)

    def use(self, provider: Any) -> None:
        """Send spans to this provider."""
        self._provider = provider
        self._tracer = provider.get_tracer("thick.service")

    @contextlib.contextmanager
    def request(self, name: str, headers: Mapping[str, str], attributes: Mapping[str, Any]) -> Iterator[Any]:
        """A span around a request, a child of the caller's where ``traceparent`` says so."""
        if self._tracer is None:
            yield None
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(
            name, context=extract(dict(headers)), kind=SpanKind.SERVER, attributes=dict(attributes)
        ) as span:
            yield span

    def phases(self, timing: Mapping[str, Any]) -> None:
        """One span for each phase of an act that just ended, laid end to end as they were run.

        Args:
            timing: milliseconds by phase, as in an answer's ``timing``.
        """
        if self._tracer is None:
            return
        order = ("decode_ms", "queue_ms", "observe_ms", "high_plan_ms", "low_plan_ms", "encode_ms")
        spent = [(name, float(timing[name])) for name in order if timing.get(name) is not None]
        at = time.time_ns() - int(1e6 * sum(ms for _, ms in spent))
        for name, ms in spent:
            span = self._tracer.start_span(name.removesuffix("_ms"), start_time=at)
            at += int(1e6 * ms)
            span.end(end_time=at)

    def shutdown(self) -> None:
        """Send what is pending."""
        if self._provider is not None:
            self._provider.shutdown()
