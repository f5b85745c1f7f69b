"""Where the service is and how to reach it: address, key, TLS, time-outs; shared by all transports."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from clients.proxies import Proxy, proxy_for
from clients.retries import Retries
from service.protocol.arrays import ENCODINGS

API_KEY_VARIABLE = "THICK_API_KEY"
"""environment variable that holds the key where none is given"""


@dataclass(frozen=True)
class Tls:
    """Certificates in PEM files."""

    ca: Path | None = None
    """who may have signed the server's certificate; the system's authorities by default"""
    certificate: Path | None = None
    """the client's own certificate, where the server wants one"""
    key: Path | None = None
    """its private key"""

    def context(self) -> ssl.SSLContext:
        """For HTTPS."""
        context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Authorities, private key and certificate as bytes, in gRPC's order."""
        ca, key, certificate = (
            path.read_bytes() if path else None for path in (self.ca, self.key, self.certificate)
        )
        return ca, key, certificate


@dataclass(frozen=True)
class ServiceConnection:
    """How to reach a service. ``ServiceConnection.to(url)`` fills in what a URL leaves out."""

    scheme: str
    """``http``, ``https``, ``grpc`` or ``grpcs``"""
    host: str
    port: int
    prefix: str = ""
    """path before ``/v1``, where a proxy puts one"""
    api_key: str | None = field(default=None, repr=False)
    tls: Tls = field(default_factory=Tls)
    timeout_s: float = 120.0
    """how long an answer may take"""
    connect_s: float = 5.0
    """how long connecting may take"""
    retries: Retries = field(default_factory=Retries)
    images: str | None = None
    """send uint8 pictures as ``png``, ``webp`` (lossless) or ``jpeg`` instead of raw bytes"""
    proxy: Proxy | None = None
    """what the environment says to go through; never for this machine"""

    @classmethod
    def to(
        cls,
        url: str,
        *,
        schemes: tuple[str, str],
        port: int,
        api_key: str | None,
        tls: Tls | None,
        timeout_s: float,
        retries: Retries | None,
        images: str | None,
    ) -> ServiceConnection:
        """The connection that a URL means.

        Args:
            url: ``https://host:port/prefix``, or ``host:port``.
            schemes: plain and secure, such as ``("http", "https")``.
            port: of a bare host; a URL with a scheme and no port has the usual one (80, 443).

        Raises:
            ValueError: the URL or the picture encoding is not usable.
            ProxyError: an environment variable names a proxy that is not usable.
        """
        usual = {"http": 80, "https": 443}
        try:
            parts = urlsplit(url if "//" in url else f"{schemes[0]}://{url}")
            asked, usable = parts.port, parts.scheme in schemes and bool(parts.hostname)
        except (ValueError, TypeError):  # brackets that are not closed, a port that is none; None for text
            usable = False
        if not usable or not parts.hostname:
            raise ValueError(
                f"url: expected {schemes[0]}://HOST:PORT or {schemes[1]}://HOST:PORT, got {url!r}"
            )
        if images is not None and images not in ENCODINGS:
            raise ValueError(f"images: expected one of {', '.join(ENCODINGS)}, got {images!r}")
        key = (api_key or os.environ.get(API_KEY_VARIABLE) or "").strip()  # a file ends with a line break
        if not key.isascii() or not key.isprintable():
            raise ValueError("api_key: expected printable ASCII, as headers hold it")
        port = asked or (usual.get(parts.scheme, port) if "//" in url else port)
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port,
            proxy=proxy_for(parts.scheme, parts.hostname, port),
            prefix=parts.path.rstrip("/"),
            api_key=key or None,
            tls=tls or Tls(),
            timeout_s=timeout_s,
            retries=retries or Retries(),
            images=images,
        )

    @property
    def secure(self) -> bool:
        """Whether TLS is used."""
        return self.scheme.endswith("s")

    @property
    def authority(self) -> str:
        """``host:port``"""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """As errors name it."""
        return f"{self.scheme}://{self.authority}{self.prefix}"

    @property
    def way(self) -> str:
        """What errors add where there is a proxy, such as `` through the proxy …``."""
        return f" through {self.proxy}" if self.proxy else ""
