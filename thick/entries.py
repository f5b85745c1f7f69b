"""Where the entries of a model repository lie, folders ``NAME/VERSION``, and what they hold. Needs no torch.

A link ``NAME/stable -> 3`` is an alias of a version: who asks for version ``stable`` gets 3.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from thick import conversion
from thick.configuration import build
from thick.manifest import (
    MANIFEST,
    NAME,
    EntryError,
    Manifest,
    StoredFile,
    check_name,
    json_object,
    read_file,
)
from thick.models.config import ModelConfig


def versions(repository: Path, name: str) -> list[str]:
    """Versions of a model that lie in the repository, oldest first, without aliases; whether they are sound is not
    checked."""
    return sorted((child.name for child in _folders(repository, name) if not _is_alias(child)), key=_natural)


def aliases(repository: Path, name: str) -> dict[str, str]:
    """Other names of a model's versions: alias -> version."""
    return {child.name: child.resolve().name for child in _folders(repository, name) if _is_alias(child)}


def _folders(repository: Path, name: str) -> list[Path]:
    folder = Path(repository) / check_name(name, "model name")
    try:
        if not folder.is_dir():
            return []
        return [child for child in folder.iterdir() if child.is_dir() and NAME.fullmatch(child.name)]
    except OSError:  # of somebody else, or on a disk that is gone
        return []


def _is_alias(child: Path) -> bool:
    """Whether an entry is a link to another one next to it."""
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


def weight_bytes(entry: Path, manifest: Manifest) -> bytes:
    """The weight file of an entry, after checking size and SHA-256.

    Raises:
        EntryError: the file is missing or not the manifest's.
    """
    return file_bytes(entry, manifest.weights)


def file_bytes(entry: Path, stored: StoredFile) -> bytes:
    """A file of an entry, after checking size and SHA-256.

    Raises:
        EntryError: it is missing or not the manifest's.
    """
    path = Path(entry) / stored.file
    content = read_file(path)
    if len(content) != stored.bytes:
        raise EntryError(
            f"{path}: {len(content)} bytes, the manifest says {stored.bytes}{guess(content)}; "
            "the file is cut off or not this model's: copy or export it again"
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != stored.sha256:
        raise EntryError(
            f"{path}: SHA-256 is {digest}, the manifest says {stored.sha256}{guess(content)}; "
            "the file is damaged or not this model's: copy or export it again"
        )
    return content


def model_config(manifest: Manifest) -> ModelConfig:
    """The configuration of the model, whichever format the manifest has.

    Raises:
        EntryError: it describes no model of this release.
    """
    what = f"{MANIFEST}: configuration.model"
    fields = json_object(manifest.configuration.get("model"), what)
    if manifest.format_version == 1:
        fields = conversion.model_fields(fields)
    try:
        config = build(ModelConfig, fields, what)
    except ValueError as error:
        raise EntryError(f"{error}; export the model again") from error
    if config.kind != manifest.kind:
        raise EntryError(
            f"{what} describes a model of kind {config.kind!r}, but kind is {manifest.kind!r}; export the model again"
        )
    return config


def guess(content: bytes) -> str:
    """What a foreign file looks like, for the reader of an error."""
    if content.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x80\x05")):
        return " (it looks like a pickled PyTorch checkpoint, which is never read here)"
    if content.startswith(b"version https://git-lfs"):
        return " (it is a Git LFS pointer: fetch the file itself)"
    if content.startswith(b"\x89HDF"):
        return " (it looks like an HDF5 file)"
    return ""


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts 2 before 10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
