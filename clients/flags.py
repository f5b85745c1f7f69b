"""Flags that the commands share: where the service is, and what the planner shall do differently."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from clients.base import SyncClient
from clients.connection import API_KEY_VARIABLE, Tls
from service.protocol.requests import HighSearch, LowSearch, PlanMethod
from thick.arguments import above
from thick.envs.options import add_env_options

METHODS = get_args(PlanMethod)

_NUMBERS: dict[str, tuple[type, str]] = {
    "samples": (int, "candidates an iteration"),
    "iterations": (int, "iterations of the low-level search"),
    "elites": (int, "candidates kept an iteration"),
    "horizon": (int, "low-level steps planned ahead"),
    "simulations": (int, "simulations of the high-level search"),
    "depth": (int, "high-level steps searched ahead"),
    "kappa": (float, "weight of the distance to the subgoal"),
    "temperature": (float, "softness of the choice among candidates"),
}


def add_task(parser: argparse.ArgumentParser) -> None:
    """``--model``, and where it acts."""
    parser.add_argument(
        "--model", required=True, help="name of the model at the service (`thick models` lists them)"
    )
    parser.add_argument(
        "--version", metavar="V", help="of the model, or an alias of one (what the service takes)"
    )
    parser.add_argument(
        "--env",
        metavar="ID",
        help="environment, such as minigrid:MiniGrid-DoorKey-8x8-v0+map or own_env.py:Corridor (the model's task)",
    )
    add_env_options(parser)


def add_connection(parser: argparse.ArgumentParser) -> None:
    """``--url``, ``--transport``, keys and certificates."""
    group = parser.add_argument_group("the service")
    group.add_argument(
        "--url",
        help="where it listens (http://127.0.0.1:8000, or grpc://127.0.0.1:8001 for gRPC)",
    )
    group.add_argument("--transport", choices=("http", "grpc"), help="(what the URL says, else http)")
    group.add_argument(
        "--encoding", choices=("msgpack", "json"), default="msgpack", help="of HTTP bodies (msgpack)"
    )
    group.add_argument("--api-key", help=f"bearer key (the variable {API_KEY_VARIABLE})")
    group.add_argument("--ca", type=Path, metavar="PEM", help="who may have signed the server's certificate")
    group.add_argument(
        "--timeout", type=above(0), default=300.0, metavar="S", help="longest wait for an answer (300)"
    )


def add_planner(parser: argparse.ArgumentParser, *, baseline: bool) -> None:
    """Overrides of the checkpoint's planner settings; with a ``baseline``, random actions may be asked for."""
    group = parser.add_argument_group("planning (what is left out is the checkpoint's)")
    choices = (*METHODS, "random") if baseline else METHODS
    random = "; random draws actions here, as a baseline" if baseline else ""
    group.add_argument("--method", choices=choices, help=f"how actions are chosen{random}")
    group.add_argument("--low", help=f"low-level search: {', '.join(get_args(LowSearch))}")
    group.add_argument("--high", help=f"high-level search: {', '.join(get_args(HighSearch))}")
    for name, (kind, text) in _NUMBERS.items():
        group.add_argument(f"--{name}", type=kind, metavar="N" if kind is int else "X", help=text)
    group.add_argument("--deadline-ms", type=float, metavar="MS", help="bound on each act")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="any other setting that the planner knows; may be given several times",
    )


def planner_overrides(options: argparse.Namespace) -> dict[str, Any]:
    """What was said about planning, as the ``planner`` of a request."""
    names = ("method", "low", "high", *_NUMBERS, "deadline_ms")
    said = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return {**said, **dict(options.set)}


def connect(options: argparse.Namespace) -> SyncClient:
    """The client that the flags ask for.

    Raises:
        ValueError: the URL cannot be used.
        ModuleNotFoundError: gRPC is asked for and not installed.
    """
    tls = Tls(ca=options.ca) if options.ca else None
    common: dict[str, Any] = {"api_key": options.api_key, "tls": tls, "timeout_s": options.timeout}
    url = options.url
    said = "grpc" if url and url.startswith(("grpc://", "grpcs://")) else "http"
    if (options.transport or said) == "grpc":
        from clients.grpc_client import GrpcPlanningClient

        return GrpcPlanningClient(_grpc_url(url), **common)
    from clients.http_client import PlanningClient

    return PlanningClient(url or "http://127.0.0.1:8000", encoding=options.encoding, **common)


def _grpc_url(url: str | None) -> str:
    """``http(s)://`` is read as ``grpc(s)://``: with ``--transport grpc`` the meaning is plain."""
    if url is None:
        return "grpc://127.0.0.1:8001"
    return url.replace("https://", "grpcs://", 1).replace("http://", "grpc://", 1)


def _setting(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
