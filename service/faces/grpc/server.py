"""The gRPC face: ``thick.v1.Planner`` with the standard health and reflection services, on the event loop
that HTTP runs on.

Three files: here the port and the options of gRPC itself, ``gate`` what every call passes through,
``methods`` what each method does.
"""

from __future__ import annotations

import ssl
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from service.core import PlanningService
from service.faces.envelope import Envelope
from service.faces.grpc.gate import Gate
from service.faces.grpc.health import Health
from service.faces.grpc.methods import Methods
from service.operations.keys import Keys
from service.operations.tracing import Tracing
from service.protocol.protobuf import SERVICE_NAME
from service.settings import Settings, SettingsError

log = structlog.get_logger("thick.grpc")

KEEPALIVE_MS = 60_000
"""a connection on which nothing came for that long is asked whether its other end still lives"""
KEEPALIVE_TIMEOUT_MS = 20_000
"""how long it may take to say so"""
FASTEST_PING_MS = 10_000
"""clients that ask more often than this are cut off"""


class GrpcServer:
    """A bound port, and once started the service behind it.

    Args:
        settings: host, ``grpc_port``, TLS and limits are taken from here.

    Raises:
        SettingsError: the port cannot be listened on, or the certificate cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._server: Any = grpc.aio.server(options=options(settings))
        self._methods: Methods | None = None
        host = settings.host.strip("[]")
        address = f"[{host}]:{settings.grpc_port}" if ":" in host else f"{host}:{settings.grpc_port}"
        self.secure = settings.tls_cert is not None
        """whether the port speaks TLS"""
        pair = _certificate(settings)
        try:
            if pair is not None:
                self.port = int(self._server.add_secure_port(address, grpc.ssl_server_credentials([pair])))
            else:
                self.port = int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            reason = str(error).partition(";")[0]
            raise SettingsError(
                f"{address} cannot be listened on ({reason}); choose another --grpc-port"
            ) from error

    async def start(self, service: PlanningService, tracing: Tracing) -> None:
        """Answer, from now on."""
        gate = Gate(Envelope(service, tracing), Keys(service.settings), service.settings.replica)
        self._methods = Methods(service, gate)
        self._server.add_generic_rpc_handlers((self._methods.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(Health(service), self._server)
        reflection.enable_server_reflection(
            (
                SERVICE_NAME,
                health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
                reflection.SERVICE_NAME,
            ),
            self._server,
        )
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, end the streams that wait for their client, and let the rest finish in time.

        Args:
            grace_s: the grace period of calls that run, s; the service has drained before, so that only answers
                are still on their way.
        """
        if self._methods is not None:
            self._methods.end_idle_streams()
        await self._server.stop(grace_s)


def options(settings: Settings) -> list[tuple[str, int]]:
    """Options of gRPC itself."""
    limits = settings.limits
    return [
        # Each method has a limit of its own below this one, with a better message.
        ("grpc.max_receive_message_length", max(limits.body_bytes, limits.belief_bytes) + 64 * 1024),
        ("grpc.max_send_message_length", -1),
        # A connection may hold a stream for every session there can be, and further calls.
        ("grpc.max_concurrent_streams", 2 * settings.max_sessions + 256),
        # Two servers on one port would share its connections at random: rather an error, but for workers of one.
        ("grpc.so_reuseport", 1 if settings.workers > 1 else 0),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", FASTEST_PING_MS),
    ]


def _certificate(settings: Settings) -> tuple[bytes, bytes] | None:
    """Private key and certificate chain, where TLS is wanted.

    Raises:
        SettingsError: they cannot be read, or do not belong together.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        # gRPC would report what is wrong with them on stderr only.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
        return settings.tls_key.read_bytes(), settings.tls_cert.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"--tls-cert {settings.tls_cert} and --tls-key {settings.tls_key} are not a certificate chain and "
            f"its private key as PEM files ({error.strerror or error})"
        ) from error
