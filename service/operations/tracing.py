"""OpenTelemetry spans, when a collector is configured."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from service.protocol.errors import ProblemError
from service.settings import Settings, SettingsError
from thick.distribution import install_command

_REQUEST: ContextVar[Any] = ContextVar("request span", default=None)
"""the span of the request in progress: the current one may be of a library that traces too"""
_NOTHING = contextlib.nullcontext()
"""around a request that is not traced"""
_PHASES = ("decode", "queue", "observe", "high_plan", "low_plan", "store")


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

    def request(
        self, name: str, headers: Mapping[str, str], attributes: Mapping[str, Any]
    ) -> contextlib.AbstractContextManager[None]:
        """A span around a request, a child of the caller's where ``traceparent`` says so.

        A problem is a failure of the span only where it is the server's (500 and above).
        """
        return _NOTHING if self._tracer is None else self._span(name, headers, attributes)

    @contextlib.contextmanager
    def _span(self, name: str, headers: Mapping[str, str], attributes: Mapping[str, Any]) -> Iterator[None]:
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
