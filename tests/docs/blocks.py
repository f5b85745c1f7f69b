"""The code blocks of README.md and docs/: where they stand, in which language, and whether they are run.

A block of shell or Python is run by tests/docs/test_run.py, unless a comment stands before it (an HTML comment,
which readers do not see):

    <!-- not run: needs docker -->
    <!-- run by: tests/clients/test_demo.py -->

The first says why it cannot run where tests run; the second which test runs it. Its flags are checked all the same.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

SHELL, PYTHON, OTHER = "shell", "python", "other"
_LANGUAGES = {"bash": SHELL, "sh": SHELL, "shell": SHELL, "console": SHELL, "python": PYTHON, "py": PYTHON}
PROGRAMS = {
    "apt-get", "curl", "docker", "export", "git", "grpcurl", "make", "pip", "pipx", "printf", "protoc", "python",
    "python3", "ray", "redis-server", "scripts/install.sh", "serve", "source", "thick",
}  # fmt: skip
"""first words of a line by which a block without a language is known as shell"""

_MARKER = re.compile(r"\s*<!-- *(not run|run by): *(.+?) *-->\s*")
_OPERATORS = {";", "&", "&&", "|", "||", "(", ")", "do", "done", "then", "fi", "if", "$", ">", "<", ">>"}


@dataclass(frozen=True)
class Block:
    """One block of code."""

    page: Path
    line: int
    """of its first line of code, from 1"""
    language: str
    text: str
    marker: tuple[str, str] | None
    """``("not run", why)`` or ``("run by", test)``"""

    @property
    def place(self) -> str:
        """``docs/client.md:12``, as errors name it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, fenced ones and those that are indented by four spaces."""
    found = []
    marker: tuple[str, str] | None = None
    lines = page.read_text().splitlines()
    index = 0
    while index < len(lines):
        line = lines[index]
        fence = re.match(r"^( {0,3})(```+)\s*([\w-]*)", line)
        noted = _MARKER.fullmatch(line)
        if fence:
            start = index + 1
            index = next(i for i in range(start, len(lines)) if lines[i].strip() == fence[2])
            text = textwrap.dedent("\n".join(lines[start:index]))
            found.append(Block(page, start + 1, _LANGUAGES.get(fence[3], OTHER), text, marker))
            marker = None
        elif noted:
            marker = (noted[1], noted[2])
        elif line.startswith("    ") and line.strip() and (index == 0 or not lines[index - 1].strip()):
            start = index
            while index < len(lines) and (lines[index].startswith("    ") or not lines[index].strip()):
                index += 1
            text = textwrap.dedent("\n".join(lines[start:index])).strip("\n")
            found.append(Block(page, start + 1, _guess(text), text, marker))
            marker = None
            continue
        elif line.strip():
            marker = None  # it stands before a paragraph
        index += 1
    return found


def _guess(text: str) -> str:
    """The language of a block that does not say it."""
    for line in text.splitlines():
        words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
        if words and words[0] in PROGRAMS:
            return SHELL
        if re.match(r"(from [\w.]+ )?import [\w.]+", line):
            return PYTHON
    return OTHER


def inline(page: Path) -> Iterator[tuple[int, str]]:
    """What stands between single backticks outside blocks, with its line."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", line):
                yield number, span


def commands(text: str) -> list[list[str]]:
    """The simple commands of a piece of shell: words without comments, redirections and assignments before them.

    Raises:
        ValueError: a quotation does not end.
    """
    found = []
    pending = ""
    for line in text.splitlines():
        pending += line.removeprefix("$ ") if not pending else "\n" + line
        if pending.endswith("\\"):
            pending = pending[:-1].rstrip() + " "
            continue
        try:
            words = list(_words(pending))
        except ValueError:
            continue  # within a quotation
        pending = ""
        found += _split(words)
    if pending.strip():
        raise ValueError(f"a quotation does not end: {pending[:60]!r}")
    return found


def _words(text: str) -> Iterator[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return iter(lexer)


def _split(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    skip = False
    for word in [*words, ";"]:
        if word in _OPERATORS or re.fullmatch(r"[;&|()<>]+", word):
            if command and command[0] != "for":
                yield command
            command, skip = [], word.startswith((">", "<"))
        elif skip:
            skip = False  # the file of a redirection
        elif command or not re.fullmatch(r"\w+=.*", word, re.DOTALL):
            command.append(word)
