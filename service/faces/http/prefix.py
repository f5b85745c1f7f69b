"""The path prefix under which clients reach the service, where it stands behind a proxy.

ASGI has it as ``root_path``; ``path`` begins with it. A proxy may leave the prefix in the path or strip it: both
are served under ``--root-path``. Without that setting, a proxy that strips may name the prefix in
``X-Forwarded-Prefix``; the header only adds to what links say, and never takes anything off a path, so that nobody
gets past a proxy's rules with it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from service.settings import PATH_PREFIX

_HEADER = b"x-forwarded-prefix"


def add_prefix(scope: MutableMapping[str, Any], root_path: str) -> None:
    """Give an HTTP or WebSocket scope its ``root_path``.

    Args:
        root_path: as configured; empty where the service stands at the root, or behind a proxy that says where.
    """
    path: str = scope["path"]
    if root_path:
        inside = path == root_path or path.startswith(root_path + "/")
        added = "" if inside else root_path
    else:
        for name, value in scope["headers"]:
            if name == _HEADER:
                added = root_path = value.decode("latin-1").rstrip("/")
                break
        else:
            return
        if PATH_PREFIX.fullmatch(root_path) is None:
            return
    scope["root_path"] = root_path
    scope["path"] = added + path if added or path != root_path else path + "/"


def local_path(scope: MutableMapping[str, Any]) -> str:
    """The path within the service: ``/v1/models``, whatever the prefix."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def headers_of(scope: MutableMapping[str, Any]) -> dict[str, str]:
    """The headers by their names in lower case; the first where one was sent more than once.

    Made once for a request: Starlette's ``Headers`` searches the whole list each time it is asked.
    """
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
