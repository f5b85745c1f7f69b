"""The store that an operator asks for, open: memory, SQLite or Redis.

``memory://`` keeps nothing, ``sqlite:///PATH`` writes through to an embedded file, ``redis://`` shares
sessions between replicas.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from service.settings import Settings, SettingsError
from service.stores.memory import MemoryStore
from service.stores.record import SessionStore, StoreError, StoreLocked
from service.stores.sqlite import SQLiteStore

log = structlog.get_logger("thick.store")


async def open_store(settings: Settings) -> SessionStore:
    """The store that the settings name, open.

    Raises:
        SettingsError: it cannot be used; the message says why and what to set.
    """
    if settings.store is None:
        return await _open_default(settings)
    store: SessionStore
    scheme = urlsplit(settings.store).scheme
    if settings.store in ("memory://", "memory:"):
        store = MemoryStore()
    elif scheme == "sqlite":
        path = sqlite_path(settings.store)
        store = SQLiteStore(path, sync=settings.store_sync)
    elif scheme in ("redis", "rediss", "unix"):
        from service.stores.redis import RedisStore

        store = RedisStore(settings.store)
    else:
        raise SettingsError(
            # Without the rest of the address, which may have a password in it.
            f"--store {scheme or 'address'}: expected memory://, sqlite:///PATH or redis://HOST:PORT/DB"
        )
    try:
        await store.open()
    except StoreError as error:
        raise SettingsError(f"--store: {error}") from error
    return store


def sqlite_path(url: str) -> Path:
    """The file of an ``sqlite:///`` address: three slashes for a relative path, four for an absolute one.

    ``sqlite:///var/lib/x`` is also read as absolute where the relative folder does not exist but the
    absolute one does, since that is what many people mean.
    """
    rest = url.removeprefix("sqlite:").removeprefix("//")
    path = Path(rest.removeprefix("/"))
    if path.parts[:1] == ("~",):  # which no shell expands behind ``sqlite:///``
        return path.expanduser()
    if not path.name:
        raise SettingsError(f"--store {url!r}: expected sqlite:///PATH with a file name")
    absolute = Path("/") / path
    if rest.startswith("/") and not path.parent.is_dir() and absolute.parent.is_dir():
        return absolute
    return path


async def _open_default(settings: Settings) -> SessionStore:
    """The embedded file of this model repository; a second server on the same one takes a file of its own."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "thick"
    name = hashlib.sha256(str(settings.models.resolve()).encode()).hexdigest()[:12]
    for number in range(1, 65):
        path = base / f"sessions-{name}{'' if number == 1 else f'-{number}'}.sqlite"
        store = SQLiteStore(path, sync=settings.store_sync)
        try:
            await store.open()
        except StoreLocked:
            log.warning(
                "another server keeps its sessions here", path=str(path), advice="name one with --store"
            )
            continue
        except StoreError as error:
            log.warning(
                "sessions are in memory only and end with the process",
                reason=str(error),
                advice="set THICK_STORE=sqlite:///PATH to keep them",
            )
            return MemoryStore()
        return store
    raise SettingsError(f"{base}: every default session file is in use; name one with --store")
