"""Traces of whoever uses a client, where OpenTelemetry is in use in this process; nothing at all elsewhere.

A call is a span, whatever it takes to answer it, and the server's spans hang below it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from clients.calls import Call


@contextlib.contextmanager
def span(call: Call[Any]) -> Iterator[None]:
    """Around a call with all its attempts."""
    if "opentelemetry" not in sys.modules:
        yield
        return
    from opentelemetry import trace

    tracer = trace.get_tracer("thick.client")
    attributes = {"thick.path": call.path, "rpc.method": call.rpc}
    with tracer.start_as_current_span(f"thick {call.rpc}", kind=trace.SpanKind.CLIENT, attributes=attributes):
        yield


def headers() -> dict[str, str]:
    """The current trace as W3C has it: ``traceparent`` and ``tracestate``."""
    if "opentelemetry" not in sys.modules:
        return {}
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier
