"""What Ray's proxies can and cannot keep to themselves."""

from __future__ import annotations

from service.settings import Settings, is_loopback


def grpc_refusal(settings: Settings) -> str | None:
    """Why Ray's gRPC proxy is not started; None where it may be.

    It listens on every address of the machine, whatever ``--host`` says, and does not speak TLS.
    """
    if settings.tls_cert is not None:
        return "Ray's gRPC proxy does not speak TLS, which --tls-cert asks for"
    keys = bool(settings.api_keys or settings.admin_keys)
    if is_loopback(settings.host) and not keys and not settings.allow_anonymous:
        return (
            "Ray's gRPC proxy listens on every address of the machine: set --api-keys (or THICK_API_KEYS), or say "
            "--allow-anonymous"
        )
    return None
