"""The documentation holds together: links lead somewhere, every page is in the index, commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.settings import Settings
from thick import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
CODE = ("thick", "service", "clients", "benchmarks", "experiments", "examples", "scripts", "tests")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def _targets(page: Path) -> list[tuple[str, Path]]:
    """The links of a page that stay within the repository, as written and as a path."""
    links = [link for link in LINK.findall(page.read_text()) if not re.match(r"[a-z]+:|#", link)]
    return [(link, (page.parent / link.partition("#")[0]).resolve()) for link in links]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    broken = [link for link, target in _targets(page) if not target.exists()]
    assert not broken


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {target for _, target in _targets(index)}
    missing = [
        str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md") if page not in {*listed, index}
    ]
    assert not missing


def test_a_word_of_the_field_has_one_spelling() -> None:
    wrong = []
    files = [*PAGES, *(file for folder in CODE for file in (ROOT / folder).rglob("*.py"))]
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            found = re.search(r"\b[Rr]oll[- ]outs?\b|\b[Tt]ime[- ]step|\b[Cc]heck[- ]points?\b", line)
            if found and file != Path(__file__):
                wrong.append(f"{file.relative_to(ROOT)}:{number}: {found[0]}")
    assert not wrong, "rollout, step, checkpoint"


def _shown(program: str) -> set[str]:
    """The words after ``program`` where a command starts: in a fence, indented, or between backticks."""
    words = set()
    for page in PAGES:
        text = page.read_text()
        fences = re.findall(r"^ *```.*?^ *```", text, re.MULTILINE | re.DOTALL)
        lines = [line for fence in fences for line in fence.splitlines()]
        lines += [line for line in text.splitlines() if line.startswith("    ")]
        lines += re.findall(r"`([^`\n]+)`", text)
        for line in lines:
            found = re.match(rf"\s*(?:\$ )?(?:\.venv/bin/)?{program} ([a-z][a-z-]*)\b", line)
            if found:
                words.add(found[1])
    return words


def test_every_command_that_the_pages_show_exists() -> None:
    shown = _shown("thick")
    assert "drive" in shown
    assert shown <= {*cli.discover(), "help"}


def test_every_make_target_that_the_pages_show_exists() -> None:
    shown = _shown("make")
    assert "install" in shown
    assert shown <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_switch_of_the_service_is_shown_without_a_value(page: Path) -> None:
    switches = {
        name.replace("_", "-") for name, item in Settings.model_fields.items() if item.annotation is bool
    }
    shown = re.findall(r"--(?:no-)?([\w-]+)[ =](?:true|false|yes|no|on|off)\b", page.read_text())
    assert "watch-observations" in switches and not switches & set(shown)  # --flag, or --no-flag
