"""Logs: one line an event on stderr, with request and session ids, and never a key."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Any

import structlog

from service.settings import Settings

_SECRET = ("authorization", "key", "token", "password", "secret")
"""parts of the names of values that are hidden"""

ABOUT: ContextVar[dict[str, str]] = ContextVar("about the request", default={})  # noqa: B039, never changed in place
"""what every line of the log about the request in progress says: its id, its session; replaced, never changed"""


def configure_logging(settings: Settings) -> None:
    """One line an event on stderr, JSON or text, for our own loggers and the libraries' alike."""
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        _about_the_request,
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
    logging.getLogger("uvicorn.error").addFilter(_no_refusal)


def _no_refusal(record: logging.LogRecord) -> bool:
    """uvicorn calls it an error where a WebSocket is answered with a problem; the line of the request says it right."""
    return "without completing handshake" not in record.getMessage()


def _about_the_request(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """One variable for all of it: structlog's own context has one for each value, set with every request."""
    return {**ABOUT.get(), **event}


def _without_secrets(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """A key never reaches a log, whoever tries to log it."""
    for name in event:
        if any(part in name.lower() for part in _SECRET) and name != "event":
            event[name] = "(hidden)"
    return event
