"""Where the entries of a model repository lie: folders ``NAME/VERSION``. Needs no torch.

A link ``NAME/stable -> 3`` is an alias of a version: who asks for version ``stable`` gets 3.
"""

from __future__ import annotations

import re
from pathlib import Path

from thick.manifest import NAME, EntryError, Manifest, check_name


def versions(repository: Path, name: str) -> list[str]:
    """Versions of a model that lie in the repository, oldest first, without aliases; whether they are sound is not
    checked."""
    return sorted((child.name for child in _folders(repository, name) if not _is_alias(child)), key=_natural)


def aliases(repository: Path, name: str) -> dict[str, str]:
    """Other names of a model's versions: alias -> version."""
    return {child.name: child.resolve().name for child in _folders(repository, name) if _is_alias(child)}


def _folders(repository: Path, name: str) -> list[Path]:
    folder = Path(repository) / check_name(name, "model name")
    if not folder.is_dir():
        return []
    return [child for child in folder.iterdir() if child.is_dir() and NAME.fullmatch(child.name)]


def _is_alias(child: Path) -> bool:
    """Whether an entry is a link to another one beside it."""
    target = child.resolve()
    return child.is_symlink() and target.parent == child.parent.resolve() and target.name != child.name


def next_version(repository: Path, name: str) -> str:
    """The smallest whole number above every version there is; ``"1"`` for a new model."""
    taken = [int(version) for version in versions(repository, name) if re.fullmatch(r"[0-9]{1,9}", version)]
    return str(max(taken, default=0) + 1)


def check_place(manifest: Manifest, entry: Path) -> None:
    """Check that an entry lies where its manifest says, as a repository needs it.

    Raises:
        EntryError: the folders are not called NAME/VERSION.
    """
    path = Path(entry).resolve()
    if (path.parent.name, path.name) != (manifest.name, manifest.version):
        raise EntryError(
            f"{path}: the manifest is that of {manifest.name}/{manifest.version}; "
            f"move the folder to {manifest.name}/{manifest.version} of the repository"
        )


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts 2 before 10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
