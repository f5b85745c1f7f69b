"""Beside other packages and folders that are called `clients`, `service` or `thick`: errors name what is in the way."""

from __future__ import annotations

import os
import re
import shutil
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
    assert done.returncode == 2
    assert done.stderr.startswith(f"thick {command}: the package `{name}` is imported from {folder}")
    assert done.stderr.count("\n") == 1
    listing = run("-m", "thick", first=tmp_path)
    assert listing.returncode == 0
    assert f"not available: the package `{name}`" in listing.stdout
    assert re.search(r"^  train +(?!\(not available)", listing.stdout, re.MULTILINE)


def test_a_folder_without_code_in_the_way_is_none(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()  # a namespace: the real package is found after it, wherever it lies
    assert run("-c", "import clients.results", first=tmp_path).returncode == 0


EDITABLE = f"""
import importlib.machinery, sys
class Last:  # as the finder of an editable installation: after everything that lies on the path
    def find_spec(name, path=None, target=None):
        return importlib.machinery.PathFinder.find_spec(name, [{str(ROOT)!r}] if path is None else path)
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder)] + [Last]
"""


@pytest.mark.parametrize(
    ("name", "said"), [("service", "`service` is imported from {}"), ("clients", "cannot import name")]
)
def test_a_folder_without_code_in_the_way_of_an_editable_installation_is_refused(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / name).mkdir()
    code = EDITABLE + "from clients import PlanningClient"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    assert said.format(tmp_path / name) in done.stderr.splitlines()[-1]


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """Two distributions in one folder: this project, and another whose files were installed over it."""
    for package in distribution.PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "build")
        )
    record = []
    for file in ("service/commands.py", "clients/http_client.py"):
        (tmp_path / file).write_text("")
        record.append(f"{file},,\n")
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(record))
    return tmp_path


@pytest.mark.slow
def test_files_that_another_distribution_replaced_are_reported_with_its_name(merged: Path) -> None:
    said = "stranger also installs a package `{}`, into the folder of that of thick-planner"
    for command, package in (("serve", "service"), ("drive", "clients"), ("demo", "clients")):
        done = run("-m", "thick", command, "--model", "m", first=merged)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"thick {command}: ") and said.format(package) in done.stderr
    listing = run("-m", "thick", first=merged)
    assert said.format("service") in listing.stdout and listing.returncode == 0
    done = run("-c", "from clients import PlanningClient", first=merged)
    assert said.format("clients") in done.stderr.splitlines()[-1]


def test_our_own_packages_pass_and_those_that_are_missing_are_left_to_the_import() -> None:
    distribution.check_own(*distribution.PACKAGES)
    distribution.check_own("a_package_that_is_not_there")
    with pytest.raises(distribution.ForeignPackageError, match="`json`"):
        distribution.check_own("json")
