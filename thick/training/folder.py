"""The folder of a run: what is in it, who may write there, and when it may be started anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from thick.configuration import read_yaml_file
from thick.data.replay import ReplayRing, remove_ring
from thick.files import FolderLock, write_atomically
from thick.training.checkpoint import has_checkpoint, remove_checkpoints
from thick.training.config import TrainConfig

CONFIG = "config.yaml"
NAMES = ("metrics.jsonl", "results.json", "tensorboard", "checkpoints", "data")
"""what a run keeps in its folder besides"""
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
        """Whether a new run may start here. What no run has written is never replaced.

        Raises:
            FileExistsError: the folder holds a run that has a checkpoint, or files of others under a run's names.
        """
        if has_checkpoint(self.checkpoints):
            raise FileExistsError(
                f"{self.path} holds a run already: go on with it (--resume), or name another folder"
            )
        if (self.path / "replay.json").is_file():
            raise FileExistsError(f"{self.path} holds a data set: name another folder for the run (--run)")
        if (self.data / "replay.json").is_file():
            try:
                own = ReplayRing.open(self.data).metadata.get("kind") == OWN_DATA["kind"]
            except ValueError:
                own = False
            if not own:
                raise FileExistsError(
                    f"{self.data} holds a data set, and a run keeps its own steps there: name another folder for it"
                )
        if (self.path / CONFIG).exists():
            if not self._has_config():
                raise FileExistsError(
                    f"{self.path / CONFIG} was not written by a run, and would be replaced: name another folder (--run)"
                )
            return
        others = [name for name in NAMES if _holds_something(self.path / name)]
        if others:
            raise FileExistsError(
                f"{self.path} holds {' and '.join(others)}, which no run has written: name another folder (--run)"
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
        if failed:  # its config.yaml says whose the rest is, and goes last: it is replaced
            for name in ("metrics.jsonl", "results.json"):
                (self.path / name).unlink(missing_ok=True)
            for file in (self.path / "tensorboard").glob("events.out.tfevents.*"):
                file.unlink()
            remove_checkpoints(self.checkpoints)
            remove_ring(self.data)
        return failed

    def _has_config(self) -> bool:
        """Whether ``config.yaml`` is one that a run wrote: it has every field."""
        try:
            content = read_yaml_file(self.path / CONFIG)
        except (ValueError, OSError):
            return False
        return content.keys() == {field.name for field in dataclasses.fields(TrainConfig)}

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


def _holds_something(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()
