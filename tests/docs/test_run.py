"""The pages' own blocks, run as a reader would: in order, page by page, against one service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import thick.envs
from tests.clients.conftest import Address
from tests.docs.blocks import PAGES, PYTHON, ROOT, SHELL, Block, blocks

STEPS = 4
"""an episode of a page ends after so many steps"""

SHORTER = {
    "--episodes 20 --parallel 10": "--episodes 2 --parallel 2 --max-steps 4",
    "--episodes 200 --seed 10000 --parallel 10": "--episodes 2 --seed 10000 --parallel 2 --max-steps 4",
    "range(100)": "range(3)",
}
"""what is asked here instead: fewer of everything"""

RUN = {
    page: [block for block in blocks(page) if block.language in (SHELL, PYTHON) and block.marker is None]
    for page in PAGES
}
SLOW = ("training.md", "runtimes.md", "client.md")
"""pages whose blocks train, export, or have many clients"""
ADVICE = """
Mend it; or, where it cannot run here, write one of these lines before it:
    <!-- not run: WHY -->
    <!-- run by: tests/FILE.py -->
What runs where, and against which service: tests/docs/test_run.py."""


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.name in SLOW else ()) for page in PAGES if RUN[page]],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_blocks_of_a_page_run(
    page: Path, address: Address, bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "robot": Robot()}
    (tmp_path / "checkpoints").symlink_to(bundled)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(thick.envs, "make", _short_episodes(thick.envs.make))
    for block in RUN[page]:
        if block.language == PYTHON:
            _run_python(block, names, address)
        else:
            _run_shell(block, address, tmp_path)


def _run_python(block: Block, names: dict[str, Any], address: Address) -> None:
    """In this process: the blocks of a page see what those before them made."""
    blank = "\n" * (block.line - 1)  # so that a traceback has the page's lines
    try:
        exec(compile(blank + _here(block.text, address), block.place, "exec"), names)
    except Exception:
        pytest.fail(f"{block.place} failed.\n{traceback.format_exc(limit=-3)}{ADVICE}", pytrace=False)


def _run_shell(block: Block, address: Address, folder: Path) -> None:
    """A block in a bash of its own. A line that starts the service is met: it runs already."""
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    for name, words in {"thick": "-m thick", "python": "", "python3": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (programs / name).chmod(0o755)
    text = re.sub(r"^(make serve|thick serve)\b.*$", ":", _here(block.text, address), flags=re.MULTILINE)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("THICK_")}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    # A refused request fails the block, as a reader would see it.
    text = re.sub(r"\bcurl -s\b", "curl -sS --fail-with-body", text)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if done.returncode:
        output = (done.stdout + done.stderr)[-2000:]
        pytest.fail(f"{block.place} ended with status {done.returncode}.\n{output}{ADVICE}", pytrace=False)


class Robot:
    """What pages call a robot."""

    def observe(self) -> Any:
        """An observation of doorkey6."""
        env = thick.envs.make("minigrid:MiniGrid-DoorKey-6x6-v0+map")
        return env.reset(seed=0)[0]

    def do(self, action: Any) -> None:
        """Nothing."""
        assert 0 <= int(action) < 6


def test_what_is_shortened_stands_in_a_page() -> None:
    texts = "\n".join(block.text for page in PAGES for block in RUN[page])
    assert all(said in texts for said in SHORTER)


def _here(text: str, address: Address) -> str:
    """With the addresses of the service that runs for the tests, and with less to do."""
    for said, instead in SHORTER.items():
        text = text.replace(said, instead)
    # Commands ask the service at the default address, where they name none.
    asks = r"^(thick (?:drive|imagine)\b)(?!.*--url)"
    text = re.sub(asks, rf"\1 --url http://{_host(address.http)}", text, flags=re.MULTILINE)
    return text.replace("localhost:8000", _host(address.http)).replace("localhost:8001", _host(address.grpc))


def _host(url: str) -> str:
    return url.partition("://")[2]


def _short_episodes(make: Any) -> Any:
    def short(*arguments: Any, **options: Any) -> Any:
        return gymnasium.wrappers.TimeLimit(make(*arguments, **options), STEPS)

    return short
