"""What a ``with`` block does with something that the server keeps: it is deleted at the end."""

from __future__ import annotations

import abc
from typing import Self

from clients.errors import ClientError


class AsyncBlock(abc.ABC):
    """A context manager that closes itself."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: object, failure: BaseException | None, _trace: object) -> None:
        try:
            await self.close()
        except ClientError:
            if failure is None:
                raise  # otherwise what ended the block matters, and what the server keeps expires by itself

    @abc.abstractmethod
    async def close(self) -> None:
        """Delete it at the server."""
