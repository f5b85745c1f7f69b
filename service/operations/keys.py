"""Who may ask: bearer keys, kept as hashes and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from enum import IntEnum

from pydantic import SecretStr

from service.protocol.errors import ProblemError
from service.settings import Settings, SettingsError, is_loopback

_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")


class Role(IntEnum):
    """What a key allows; a higher role includes the lower ones."""

    NOBODY = 0
    CLIENT = 1
    ADMIN = 2


class Keys:
    """The configured keys. Only their hashes stay in memory."""

    def __init__(self, settings: Settings) -> None:
        self._clients = _hashes(settings.api_keys)
        self._admins = _hashes(settings.admin_keys)
        # Admin keys alone close everything to other machines, but leave this machine's own programs as they were.
        exposed = not is_loopback(settings.host) and not settings.allow_anonymous
        self.anonymous = Role.NOBODY
        """the role on paths that need no key"""
        self.required = bool(self._clients) or (bool(self._admins) and exposed)
        """whether ordinary requests need a key"""

    def role(self, authorization: str | None) -> Role:
        """The role of an ``Authorization`` header.

        Raises:
            ProblemError: ``unauthenticated`` where a key is needed and none (or another scheme) was sent,
                ``forbidden`` where it is not one of ours.
        """
        if not authorization:
            if self.required:
                raise ProblemError("unauthenticated", "send the header Authorization: Bearer KEY")
            return Role.CLIENT
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            if self.required:
                raise ProblemError("unauthenticated", "send the header Authorization: Bearer KEY")
            return Role.CLIENT
        sent = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        if _any_equal(sent, self._admins):
            return Role.ADMIN
        if _any_equal(sent, self._clients):
            return Role.CLIENT
        if self.required or self._admins:
            raise ProblemError("forbidden", "the API key is not known here")
        return Role.CLIENT


def require_admin(role: Role, settings: Settings, *, key_sent: bool) -> None:
    """Refuse whoever may not load and unload models.

    Raises:
        ProblemError: ``admin_disabled``, ``unauthenticated`` or ``forbidden``.
    """
    if not settings.model_control:
        raise ProblemError(
            "admin_disabled", "start the server with --model-control and --admin-keys to allow this"
        )
    if role < Role.ADMIN:
        if not key_sent:
            raise ProblemError("unauthenticated", "loading and unloading need an admin key")
        raise ProblemError("forbidden", "loading and unloading need an admin key; this one is a client's")


def _hashes(keys: Iterable[SecretStr]) -> tuple[bytes, ...]:
    hashes = []
    for secret in keys:
        key = secret.get_secret_value()
        hashed = _HASHED.fullmatch(key)
        if key.startswith("sha256:") and not hashed:
            raise SettingsError("a key that starts with sha256: needs 64 hexadecimal digits after it")
        if not key.isascii() or not key.isprintable():
            raise SettingsError(
                "a key has characters beyond printable ASCII, which clients cannot send in a header"
            )
        hashes.append(bytes.fromhex(hashed.group(1)) if hashed else hashlib.sha256(key.encode()).digest())
    return tuple(hashes)


def _any_equal(sent: bytes, known: tuple[bytes, ...]) -> bool:
    """Compares with every key, always, so that the time does not depend on which one was near."""
    found = False
    for each in known:
        found |= hmac.compare_digest(sent, each)
    return found
