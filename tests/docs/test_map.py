"""docs/architecture.md is a map of the repository as it is: nothing on it is missing, no room is off it."""

from __future__ import annotations

import re

from tests.docs.blocks import ROOT, inline

MAP = ROOT / "docs" / "architecture.md"
PACKAGES = ("thick", "service", "clients")


def named() -> set[str]:
    """The files and folders that the page names."""
    return {span for _, span in inline(MAP) if re.fullmatch(r"[\w.-]+/[\w./-]*", span)}


def test_every_path_on_the_map_exists() -> None:
    paths = named()
    assert len(paths) > 40
    missing = sorted(path for path in paths if not (ROOT / path).exists())
    assert not missing, f"docs/architecture.md names what is not there: {', '.join(missing)}"
    mistaken = sorted(path for path in paths if path.endswith("/") != (ROOT / path).is_dir())
    assert not mistaken, "a folder ends in a slash, a file does not"


def test_every_package_in_the_rooms_is_on_the_map() -> None:
    folders = {
        f"{file.parent.relative_to(ROOT)}/"
        for package in PACKAGES
        for file in (ROOT / package).glob("*/__init__.py")
    }
    off = sorted(folder for folder in folders if not any(path.startswith(folder) for path in named()))
    assert not off, f"docs/architecture.md lacks a line for {', '.join(off)}: say what happens there"
