# Written by scripts/sync_clients.py from clients/asynchronous/block.py: change that one, and run the script.
"""What a ``with`` block does with something that the server keeps: it is deleted at the end."""

from __future__ import annotations

import abc
from typing import Self

from clients.errors import ClientError


class Block(abc.ABC):
    """A context manager that closes itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, failure: BaseException | None, _trace: object) -> None:
        try:
            self.close()
        except ClientError:
            if failure is None:
                raise  # otherwise what ended the block matters, and what the server keeps expires by itself

    @abc.abstractmethod
    def close(self) -> None:
        """Delete it at the server."""
