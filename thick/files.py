"""Writing files so that a reader never sees half of one, and folders that one process at a time may write."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path


class FolderInUseError(RuntimeError):
    """Another process writes into the folder."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a neighbour, flush it to the disk, then rename: a crash leaves the old file or the new one.

    Raises:
        OSError: it cannot be written (the disk is full, say); the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(neighbour, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(neighbour, path)
    except BaseException:
        with contextlib.suppress(OSError):
            neighbour.unlink(missing_ok=True)
        raise


class FolderLock:
    """The right to write into a folder, held by one process at a time and given back when it ends, however it ends.

    Args:
        folder: is made if it is not there.

    Raises:
        FolderInUseError: another process (or another holder in this one) has it.
    """

    def __init__(self, folder: Path) -> None:
        self._file: int | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 200).decode(errors="replace").strip() or "another process"
            self.release()
            raise FolderInUseError(
                f"{folder} is being written by {holder}: wait until it ends, stop it, or name another folder"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    @property
    def held(self) -> bool:
        """Whether it has not been given back."""
        return self._file is not None

    def release(self) -> None:
        """Give it back; the file stays, since another process may wait for it already."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.release()
