"""What this project is called where packages are installed, and whether a package that Python finds is its own.

The distribution is ``thick-planner``; it brings the packages ``thick``, ``service`` and ``clients``. The last two
names are common: another project's folder or package may come first on Python's path. Standard library alone, so
that it can be asked before anything else is imported.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
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


@contextlib.contextmanager
def naming_neighbours(package: str | None = None) -> Iterator[None]:
    """Around an import: where a part of this project cannot be imported since another distribution has installed files
    into the same folder, the error names that distribution.

    Args:
        package: what an AttributeError inside is about, since it does not say so itself.

    Raises:
        ForeignPackageError: instead of such an ImportError or AttributeError.
    """
    try:
        yield
    except ForeignPackageError:
        raise
    except (ImportError, AttributeError) as error:
        name = package if isinstance(error, AttributeError) else (error.name or "").partition(".")[0]
        others = _others(name) if name in PACKAGES else []
        if not others:
            raise
        raise ForeignPackageError(
            f"{error}: {' and '.join(others)} also installs a package `{name}`, into the folder of that of {NAME}, and "
            "has replaced files there; install the two in separate environments (docs/installation.md)",
            name=name,
        ) from error


def _others(package: str | None) -> list[str]:
    """Other distributions that have files in a package's folder. Slow: it reads what each has installed."""
    names = {
        str(found.metadata["Name"])
        for found in distributions()
        if any(file.parts[:1] == (package,) for file in found.files or ())
    }
    return sorted(names - {NAME})


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
