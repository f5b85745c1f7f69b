"""What this project is called where packages are installed, and whether a package that Python finds is its own.

The distribution is ``thick-planner``; it brings the packages ``thick``, ``service`` and ``clients``. The last two
names are common: another project's folder or package may come first on Python's path. Standard library alone, so
that it can be asked before anything else is imported.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

NAME = "thick-planner"
"""the distribution, as pip knows it (the name ``thick`` belongs to another project)"""

PACKAGES = ("thick", "service", "clients")
"""the top-level packages that it brings"""

ROOT = Path(__file__).resolve().parents[1]
"""the folder that holds them: the repository, or site-packages"""


class ForeignPackageError(ImportError):
    """Python finds another project's package under a name of ours; the message says where."""


def install_command(extra: str | None = None) -> str:
    """What to type for the packages of an extra. It works from any folder, as the project is installed already."""
    return f"pip install '{NAME}[{extra}]'" if extra else f"pip install '{NAME}'"


def check_own(*packages: str) -> None:
    """Refuses packages of these names that are not this project's.

    Raises:
        ForeignPackageError: names the folder that came first on Python's path, and what to do.
    """
    for package in packages:
        found = _folder(package)
        if found is not None and found != ROOT / package:
            raise ForeignPackageError(
                f"the package `{package}` is imported from {found}, which is not part of {NAME} "
                f"(its own lies in {ROOT / package}): another package or folder of that name comes first on "
                "Python's path; rename it, run from another folder, or install the two in separate "
                "environments (docs/installation.md)",
                name=package,
            )


def _folder(package: str) -> Path | None:
    """Where Python finds a package; None where it finds none, which the import itself will say."""
    loaded = sys.modules.get(package)
    if loaded is not None:
        places = (
            [loaded.__file__] if getattr(loaded, "__file__", None) else list(getattr(loaded, "__path__", ()))
        )
    else:
        spec = find_spec(package)
        if spec is None:
            return None
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    if not places or places[0] is None:
        return None
    place = Path(places[0])
    folder = place.parent if place.name == "__init__.py" else place
    return folder.resolve()
