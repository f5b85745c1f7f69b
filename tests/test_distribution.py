"""Beside other packages and folders that are called `clients`, `service` or `thick`: errors name what is in the way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from thick import distribution

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command: str, first: Path) -> subprocess.CompletedProcess[str]:
    """Python with a folder before this project on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(first), str(ROOT)))}
    return subprocess.run(
        [sys.executable, "-P", *command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=first,
        timeout=60,
    )


def foreign(folder: Path, name: str) -> Path:
    """Another project's package."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("")
    return folder / name


def test_the_project_s_own_name_is_used_wherever_it_refers_to_itself() -> None:
    assert PROJECT["name"] == distribution.NAME
    requirements = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    own = {re.match(r"[\w.-]+", line)[0] for line in requirements if "[" in line}  # type: ignore[index]
    assert distribution.NAME in own and "thick" not in own
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "thick").rglob("*.py")]
    wrong = [page for page in pages if re.search(r"install[^\n`]*\bthick\[", page.read_text())]
    assert not wrong, "`thick` on the package index is another project"


@pytest.mark.parametrize("name", ["service", "thick"])
def test_the_client_next_to_a_stranger_s_package_says_which_is_in_the_way(tmp_path: Path, name: str) -> None:
    folder = foreign(tmp_path, name)
    done = run("-c", "from clients import PlanningClient", first=tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "Error: " in last
    assert f"`{name}`" in last and "docs/installation.md" in last
    assert str(folder) in last or name == "thick"  # whose own parts may be out of reach, with what names it


def test_a_stranger_s_module_of_one_file_is_distinguished_from_ours(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text("")
    done = run("-c", "import clients", first=tmp_path)
    assert f"`service` is imported from {tmp_path / 'service.py'}" in done.stderr


@pytest.mark.parametrize(
    ("name", "command"), [("clients", "drive"), ("service", "serve"), ("service", "drive")]
)
def test_a_command_next_to_a_stranger_s_package_says_so_in_one_line(
    tmp_path: Path, name: str, command: str
) -> None:
    folder = foreign(tmp_path, name)
    done = run("-m", "thick", command, "--help", first=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"thick {command}: the package `{name}` is imported from {folder}")
    assert done.stderr.count("\n") == 1
    listing = run("-m", "thick", first=tmp_path)
    assert listing.returncode == 0
    assert f"not available: the package `{name}`" in listing.stdout
    assert re.search(r"^  train +(?!\(not available)", listing.stdout, re.MULTILINE)


def test_a_folder_without_code_in_the_way_is_none(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()  # a namespace: the real package is found after it, wherever it lies
    assert run("-c", "import clients.results", first=tmp_path).returncode == 0


def test_our_own_packages_pass_and_those_that_are_missing_are_left_to_the_import() -> None:
    distribution.check_own(*distribution.PACKAGES)
    distribution.check_own("a_package_that_is_not_there")
    with pytest.raises(distribution.ForeignPackageError, match="`json`"):
        distribution.check_own("json")
