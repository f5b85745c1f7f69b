"""The folder of a run: what is in it, who may write there, and when it may be started anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from thick.data.replay import ReplayRing
from thick.files import FolderLock, write_atomically
from thick.training.checkpoint import has_checkpoint

CONFIG = "config.yaml"
OWN_DATA = {"kind": "steps of a training run"}
"""in the metadata of the ring that a run writes, to distinguish it from a data set that was given"""


class RunFolder:
    """Where a run lives: ``config.yaml``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/``, ``data/``.

    Args:
        path: the folder; it need not be there yet, and is not made before :meth:`claim`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints, self.data = path / "checkpoints", path / "data"
        self._lock: FolderLock | None = None

    def check_free(self) -> None:
        """Whether a new run may start here.

        Raises:
            FileExistsError: the folder holds a run that has a checkpoint, or a data set that no run wrote.
        """
        if has_checkpoint(self.checkpoints):
            raise FileExistsError(
                f"{self.path} holds a run already: go on with it (--resume), or name another folder"
            )
        if (self.data / "replay.json").is_file():
            try:
                own = ReplayRing.open(self.data).metadata.get("kind") == OWN_DATA["kind"]
            except ValueError:
                own = False
            if not own:
                raise FileExistsError(
                    f"{self.data} holds a data set, and a run keeps its own steps there: name another folder for it"
                )

    def claim(self) -> bool:
        """Make the folder, take the right to write into it, and clear what a start that failed has left.

        Returns:
            Whether there was something to clear.

        Raises:
            FolderInUseError: another process writes there.
            FileExistsError: as :meth:`check_free` has it.
        """
        self.lock()
        try:
            self.check_free()
        except FileExistsError:
            self.release()
            raise
        failed = (self.path / CONFIG).is_file()
        if failed:
            for name in (CONFIG, "metrics.jsonl", "results.json"):
                (self.path / name).unlink(missing_ok=True)
            for folder in (self.checkpoints, self.data, self.path / "tensorboard"):
                _empty(folder)
        return failed

    def lock(self) -> None:
        """Take the right to write into the folder, unless it is held."""
        if self._lock is None or not self._lock.held:
            self._lock = FolderLock(self.path)

    def release(self) -> None:
        """Give that right back."""
        if self._lock is not None:
            self._lock.release()

    def write_config(self, content: dict[str, Any]) -> None:
        """Write ``config.yaml``."""
        write_atomically(self.path / CONFIG, yaml.safe_dump(content, sort_keys=False).encode())


def _empty(folder: Path) -> None:
    """Remove what is in a folder; the folder itself may be a link to another disk, and stays."""
    for item in folder.iterdir() if folder.is_dir() else ():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()
