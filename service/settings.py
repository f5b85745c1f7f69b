"""Everything an operator may set: one record, read from flags (``service.flags``) and ``THICK_*`` variables.

A flag wins over its variable, a variable over the default.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.protocol.limits import DEFAULT_LIMITS, MEBIBYTE, Limits
from thick.nearest import nearest

GROUPS = {
    "where": "Where",
    "compute": "Computing",
    "sessions": "Sessions and their store",
    "load": "Load",
    "security": "Security",
    "limits": "Limits on one request",
    "watch": "Logs and traces",
}
"""headings of ``--help``, in order"""

PATH_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,100}){1,10}")
"""a path under which a proxy may show the service: segments of plain characters, no slash at the end"""
OWN_PATHS = ("/v1", "/v2", "/health", "/metrics", "/docs", "/ui", "/openapi.json", "/openpi")
"""first segments of the service's own paths, which a prefix cannot begin with: the two would be ambiguous"""


class SettingsError(Exception):
    """The settings cannot be used; the message is for the operator, and says what to change."""


def _field(group: str, default: Any, description: str, *, metavar: str = "N", **constraints: Any) -> Any:
    shown: dict[str, Any] = {"group": group, "metavar": metavar}
    return Field(default, description=description, json_schema_extra=shown, **constraints)


Keys = Annotated[tuple[SecretStr, ...], NoDecode]


class _Variables(EnvSettingsSource):
    """The variables, without ``THICK_PORT`` as Kubernetes sets it for a service that is called thick."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        value, key, is_complex = super().get_field_value(field, field_name)
        linked = field_name == "port" and re.match(r"(tcp|udp|sctp)://", str(value))
        return (None if linked else value), key, is_complex


class Settings(BaseSettings):
    """Settings of ``thick serve``; every field is also the variable ``THICK_`` + its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="THICK_", extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What was given, then variables."""
        return init_settings, _Variables(settings_cls)

    # -- where -------------------------------------------------------------------------------------------
    models: Path = _field(
        "where",
        Path("checkpoints"),
        "model repository: a folder NAME/VERSION/{model.safetensors, manifest.json}",
        metavar="DIR",
    )
    host: str = _field(
        "where", "127.0.0.1", "address to listen on; beyond loopback needs keys", metavar="HOST"
    )
    port: int = _field("where", 8000, "HTTP port; 0 takes a free one", ge=0, le=65535)
    grpc_port: int = _field("where", 8001, "gRPC port; 0 takes a free one", ge=0, le=65535)
    root_path: str = _field(
        "where",
        "",
        "path prefix under which a proxy shows the service, such as /thick; the proxy may strip it or leave it",
        metavar="PATH",
    )
    load_versions: Literal["all", "latest"] = _field(
        "where", "all", "which versions of a model to load at the start; live sessions keep theirs either way"
    )
    watch_s: float = _field(
        "where",
        0.0,
        "look for new models and versions every so many seconds; 0 looks only at the start",
        ge=0,
    )
    model_control: bool = _field(
        "where", False, "allow loading and unloading of models over the network, with an admin key"
    )

    # -- compute -----------------------------------------------------------------------------------------
    device: str = _field(
        "compute",
        "cpu",
        "where models run: cpu, cuda or cuda:N",
        pattern=r"^(cpu|cuda(:\d+)?)$",
        metavar="DEVICE",
    )
    backend: Literal["auto", "native", "onnx", "torch"] = _field(
        "compute", "auto", "what runs them; auto takes the first that is there and can run the model"
    )
    precision: Literal["auto", "fp32", "bf16"] = _field(
        "compute", "auto", "arithmetic of planning; auto takes bf16 where the hardware has it"
    )
    threads: int | None = _field(
        "compute",
        None,
        "CPU threads of one search; default what is fastest, found while it runs",
        ge=1,
        le=1024,
    )
    plans_at_once: int | None = _field(
        "compute",
        None,
        "searches side by side on a CPU; default what is fastest, found while it runs",
        ge=1,
        le=1024,
    )
    workers: int = _field(
        "compute", 1, "processes behind the same ports, over one Redis (--store redis://…)", ge=1, le=256
    )
    max_batch: int = _field("compute", 32, "sessions planned together at most", ge=1, le=4096)
    batch_wait_ms: float = _field(
        "compute",
        1.0,
        "how long a request may wait for others to share its batch while others are active",
        ge=0,
        le=1000,
    )

    ray: str | None = _field(
        "compute",
        None,
        "deploy on Ray Serve: local starts Ray here, auto or an address joins a cluster",
        metavar="local|auto|ADDRESS",
    )
    replicas: str = _field(
        "compute", "2", "with --ray: so many, or as many as are needed (2..8)", metavar="N|N..M"
    )
    replica: str | None = _field(
        "compute",
        None,
        "name of this process among several; answers carry it (Thick-Replica)",
        metavar="NAME",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
    )

    # -- sessions ----------------------------------------------------------------------------------------
    store: str | None = _field(
        "sessions",
        None,
        "memory:// (lost with the process), sqlite:///PATH, or redis://HOST:PORT/DB; default an SQLite file "
        "of this model repository under the user's state folder",
        metavar="URL",
    )
    store_sync: Literal["process", "power"] = _field(
        "sessions",
        "process",
        "what an answered step survives in SQLite: the end of the process (kill -9), or power loss too (an "
        "fsync for each group of steps)",
    )
    max_sessions: int = _field("sessions", 4096, "live sessions at most; beyond, 429", ge=1)
    watch_sessions: bool = _field(
        "sessions", False, "whoever has a key may watch sessions act (/ui, /v1/sessions/{id}/events)"
    )
    watch_observations: bool = _field("sessions", True, "what they see is shown, too")
    max_dreams: int = _field(
        "sessions", 16_384, "imagined environments of all dreams together at most; beyond, 429", ge=1
    )
    session_ttl_s: float = _field(
        "sessions",
        3600.0,
        "seconds without use after which a session expires, unless it asks otherwise",
        gt=0,
    )
    max_ttl_s: float = _field("sessions", DEFAULT_LIMITS.ttl_s, "longest life a session may ask for", gt=0)

    # -- load --------------------------------------------------------------------------------------------
    queue_limit: int = _field("load", 256, "acts that may wait; beyond, 429", ge=1)
    degrade: bool = _field(
        "load",
        False,
        "answer from the last plan, marked as degraded, where a deadline passed in the queue (otherwise 504)",
    )
    head_timeout_s: float = _field(
        "load", 10.0, "seconds in which the line and the headers of a request must arrive", gt=0
    )
    body_timeout_s: float = _field("load", 30.0, "seconds in which a request body must arrive", gt=0)
    unread_timeout_s: float = _field(
        "load", 30.0, "seconds for which a client may take nothing of its answer", ge=0.1, le=3600
    )
    drain_s: float = _field("load", 30.0, "grace period of running requests after SIGTERM, s", ge=0)

    # -- security ----------------------------------------------------------------------------------------
    api_keys: Keys = _field(
        "security",
        (),
        "keys of clients, separated by commas; each as it is, or sha256:HEX of it",
        metavar="KEY,...",
    )
    admin_keys: Keys = _field(
        "security", (), "keys that may also load and unload models; same form", metavar="KEY,..."
    )
    allow_anonymous: bool = _field(
        "security", False, "listen beyond loopback without keys: everyone who reaches the port may use it"
    )
    public_metrics: bool = _field("security", False, "serve /metrics without a key even when keys are set")
    tls_cert: Path | None = _field(
        "security", None, "certificate chain (PEM); with --tls-key, TLS on both ports", metavar="FILE"
    )
    tls_key: Path | None = _field("security", None, "private key (PEM) of the certificate", metavar="FILE")

    # -- limits ------------------------------------------------------------------------------------------
    max_body_bytes: int = _field("limits", DEFAULT_LIMITS.body_bytes, "request body, bytes", ge=1024)
    max_belief_bytes: int = _field("limits", DEFAULT_LIMITS.belief_bytes, "belief to restore, bytes", ge=1024)
    max_array_bytes: int = _field("limits", DEFAULT_LIMITS.array_bytes, "one array, bytes", ge=1024)
    grpc_answer_bytes: int = _field(
        "limits",
        4 * MEBIBYTE,
        "answer over gRPC to a client that does not say how much it takes, bytes; gRPC's own clients take 4 MiB "
        "unless set otherwise; 0 sends answers of any size",
        ge=0,
    )
    max_nesting: int = _field("limits", DEFAULT_LIMITS.nesting, "nesting of lists and objects", ge=4, le=200)
    max_horizon: int = _field("limits", DEFAULT_LIMITS.horizon, "steps planned or imagined ahead", ge=1)
    max_rollouts: int = _field("limits", DEFAULT_LIMITS.rollouts, "futures imagined at once", ge=1)
    max_imagined_steps: int = _field(
        "limits", DEFAULT_LIMITS.imagined_steps, "rollouts times horizon of one imagination", ge=1
    )
    max_samples: int = _field("limits", DEFAULT_LIMITS.samples, "candidates of a search", ge=1)
    max_iterations: int = _field("limits", DEFAULT_LIMITS.iterations, "iterations of a search", ge=1)
    max_simulations: int = _field("limits", DEFAULT_LIMITS.simulations, "simulations of a tree search", ge=1)
    max_ponder_ms: float = _field(
        "limits", DEFAULT_LIMITS.ponder_ms, "planning ahead between two acts of a session, ms", gt=0
    )

    # -- watch -------------------------------------------------------------------------------------------
    log_level: Literal["debug", "info", "warning", "error"] = _field("watch", "info", "least severity logged")
    log_format: Literal["auto", "json", "text"] = _field(
        "watch", "auto", "auto writes text to a terminal and JSON elsewhere"
    )
    access_log: bool = _field("watch", True, "one line for every request")
    otlp_endpoint: str | None = _field(
        "watch",
        None,
        "OpenTelemetry collector (OTLP over HTTP), such as http://localhost:4318; default no traces",
        metavar="URL",
    )

    @field_validator("api_keys", "admin_keys", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Comma-separated text, as a variable holds it."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("root_path")
    @classmethod
    def _plain_prefix(cls, value: str) -> str:
        prefix = value.rstrip("/")
        if prefix and not PATH_PREFIX.fullmatch(prefix):
            raise ValueError(
                f"expected a path such as /thick or /robots/thick, in plain characters, got {value!r}"
            )
        if any(part in (".", "..") for part in prefix.split("/")):  # which a browser would resolve
            raise ValueError(f"expected a path without . and .. such as /thick, got {value!r}")
        if prefix and "/" + prefix.split("/")[1] in OWN_PATHS:
            raise ValueError(
                f"/{prefix.split('/')[1]} is a path of the service itself; choose another prefix"
            )
        return prefix

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TLS needs both --tls-cert and --tls-key")
        if self.model_control and not self.admin_keys:
            raise ValueError("--model-control needs --admin-keys: nobody could use it")
        if self.workers > 1 and not self.shares_sessions:
            raise ValueError(
                f"--workers {self.workers}: processes share sessions through Redis: add --store redis://HOST:PORT/DB"
            )
        if self.ray is not None and self.workers > 1:
            raise ValueError("--ray and --workers: Ray starts the processes; say how many with --replicas")
        if self.session_ttl_s > self.max_ttl_s:
            raise ValueError("--session-ttl-s lies above --max-ttl-s")
        return self

    @property
    def shares_sessions(self) -> bool:
        """Whether several processes can have the store: Redis alone."""
        return (self.store or "").startswith(("redis://", "rediss://", "unix://"))

    @property
    def limits(self) -> Limits:
        """The bounds on requests."""
        return Limits(
            body_bytes=self.max_body_bytes,
            belief_bytes=self.max_belief_bytes,
            array_bytes=self.max_array_bytes,
            string_bytes=max(self.max_body_bytes, MEBIBYTE),
            nesting=self.max_nesting,
            horizon=self.max_horizon,
            rollouts=self.max_rollouts,
            imagined_steps=self.max_imagined_steps,
            samples=self.max_samples,
            iterations=self.max_iterations,
            simulations=self.max_simulations,
            ponder_ms=self.max_ponder_ms,
            ttl_s=self.max_ttl_s,
        )

    def check_exposure(self) -> None:
        """Refuse to serve other machines without keys.

        Raises:
            SettingsError: the address is not loopback, there are no keys, and nobody said that this is
                wanted.
        """
        if is_loopback(self.host) or self.api_keys or self.admin_keys or self.allow_anonymous:
            return
        raise SettingsError(
            f"--host {self.host} can be reached from other machines and no keys are set: anybody could "
            "use the service. Set --api-keys (or THICK_API_KEYS), listen on 127.0.0.1, or say "
            "--allow-anonymous."
        )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def build(values: Mapping[str, Any]) -> Settings:
    """Settings from values (of flags) and ``THICK_*`` variables.

    Raises:
        SettingsError: a value is wrong; all of them are named.
    """
    try:
        return Settings(**values)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False, include_input=False):
            name = ".".join(str(part) for part in item["loc"][:1])
            message = str(item["msg"]).removeprefix("Value error, ")
            if name:
                source = flag(name) if name in values else f"THICK_{name.upper()}"
                message = f"{source}: {message[0].lower()}{message[1:]}"
            lines.append(message)
        raise SettingsError("\n".join(lines)) from error


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables ``THICK_*`` that are no settings, each with the nearest that is one: most likely a slip."""
    known = {name.upper() for name in Settings.model_fields}
    ours = [name for name in sorted(environment) if name.startswith("THICK_") and name not in ELSEWHERE]
    wrong = [name for name in ours if name[6:].upper() not in known and not _OF_KUBERNETES.search(name)]
    return {name: f"THICK_{near}" for name in wrong if (near := nearest(name[6:], known))}


ELSEWHERE = frozenset({"THICK_API_KEY", "THICK_INSTRUCTIONS", "THICK_NATIVE_LIBRARY"})
"""variables that clients and runtimes read"""
_OF_KUBERNETES = re.compile(r"_SERVICE_|_PORT_\d")  # which it sets for a service of the name


def flag(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")
