"""Sessions in the server's own memory alone."""

from __future__ import annotations

from service.stores.record import Record


class MemoryStore:
    """Keeps nothing: sessions live in the server's own memory and end with it."""

    shared = False
    durable = False

    async def open(self) -> None: ...

    async def load(self) -> list[Record]:
        return []

    async def read(self, session_id: str) -> Record | None:
        return None

    async def revision(self, session_id: str) -> int | None:
        return None

    async def write(self, record: Record) -> None: ...

    def write_now(self, record: Record) -> bool:
        return True

    async def delete(self, session_id: str) -> None: ...

    async def sweep(self, now: float) -> None: ...

    async def close(self) -> None: ...
