"""When a request is sent again, and after what pause (stamina)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import stamina
from stamina import instrumentation

from clients.calls import Call
from clients.errors import BusyError, ClientError, ConnectionLostError, NotConnectedError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retries:
    """Bounds on sending a request again. ``Retries(attempts=1)`` never does."""

    attempts: int | None = None
    """times a request is sent at most; by default 6, and 12 where it goes on with a session or a dream: whoever had
    an answer before waits some 25 s for a server that is started again"""
    total_s: float = 30.0
    """seconds that all attempts and pauses may take together, before the last attempt starts"""
    first_pause_s: float = 0.05
    """the pause doubles from here, with jitter"""
    longest_pause_s: float = 5.0
    """the longest pause, also where the server's ``Retry-After`` says more"""

    def context(self, call: Call[Any]) -> Any:
        """stamina's loop over attempts: ``for attempt in ...: with attempt: ...``, also ``async for``"""
        return stamina.retry_context(
            on=self._when(call),
            attempts=self._attempts(call),
            timeout=self.total_s,
            wait_initial=self.first_pause_s,
            wait_max=self.longest_pause_s,
            wait_jitter=self.first_pause_s,
        )

    def _attempts(self, call: Call[Any]) -> int:
        if self.attempts is not None:
            return self.attempts
        return 12 if call.about is not None and call.verb == "POST" else 6

    def _when(self, call: Call[Any]) -> Callable[[Exception], bool | float]:
        def when(error: Exception) -> bool | float:
            leave_stdout_alone()
            if isinstance(error, BusyError):  # nothing was done; the server says when to come back
                if error.extra.get("state") == "failed":  # waiting does not mend a model
                    return False
                return min(error.retry_after, self.longest_pause_s) if error.retry_after else True
            if isinstance(error, ConnectionLostError):
                return call.repeatable
            return isinstance(error, NotConnectedError)

        return when


def leave_stdout_alone() -> None:
    """Let stamina report to ``logging``, and in words, where it would report to a structlog that nobody configured.

    That one prints on stdout, between a program's own output; and what stamina's own logs say without a formatter is
    their name alone. Hooks that somebody set, and a structlog that is configured, stay.
    """
    hooks = instrumentation.get_on_retry_hooks()
    unwanted = [hook for hook in hooks if getattr(hook, "__module__", "").endswith(_UNWANTED)]
    configured = "structlog" in sys.modules and sys.modules["structlog"].is_configured()
    if unwanted and not configured:
        others = [hook for hook in hooks if hook not in unwanted]
        instrumentation.set_on_retry_hooks([*others, _report])


_UNWANTED = ("instrumentation._structlog", "instrumentation._logging")
_others = instrumentation.LoggingOnRetryHook.hook_factory()


def _report(details: instrumentation.RetryDetails) -> None:
    """Log that a request is sent again; what else uses stamina in this process is logged as it was."""
    if isinstance(details.caused_by, ClientError):
        log.warning("%s; trying again in %.1f s", details.caused_by, details.wait_for)
    else:
        _others(details)
