"""Writes the blocking clients from the asynchronous ones, so that both are written once.

    python scripts/sync_clients.py            # writes clients/{carrier,base,session,…}.py: see MODULES
    python scripts/sync_clients.py --check    # exits with 1 where one of them is not what it would write

Words are replaced, ``async`` and ``await`` left out, and ruff puts the result in the project's form.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
MODULES = ("carrier", "block", "base", "dream", "realtime", "session", "http_client", "grpc_client")

WORDS = {
    r"\basync (?=def|for|with)": "",
    r"\bawait ": "",
    r"\bclients\.asynchronous\b": "clients",
    r"\bhttpx\.AsyncClient\b": "httpx.Client",
    r"\bAsyncClient\b": "SyncClient",
    r"\bAsync(?=Acting|Block|Carrier|Dream|Session|Realtime|PlanningClient|GrpcPlanningClient|Iterator)": "",
    r"\bSessionOpening\b": "Session",
    r"\bDreamOpening\b": "Dream",
    r"\b__a(?=enter__|exit__)": "__",
    r"\baclose\b": "close",
    r"\baread\b": "read",
    r"\baiter_lines\b": "iter_lines",
}

HEADER = """\
# Written by scripts/sync_clients.py from clients/asynchronous/{name}.py: change that one, and run the script.
"""


class LeftoverError(ValueError):
    """Something asynchronous is left: the table of words lacks it."""


def blocking(source: str, name: str) -> str:
    """The blocking form of an asynchronous module.

    Raises:
        LeftoverError: the result would still be asynchronous.
    """
    for pattern, replacement in WORDS.items():
        source = re.sub(pattern, replacement, source)
    left = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await)
    ]
    words = sorted({*re.findall(r"\w*[aA]sync\w*", source), *(type(node).__name__ for node in left)})
    if words:
        raise LeftoverError(f"{name}: {', '.join(words)}: the table WORDS of this script does not know it")
    source = HEADER.format(name=name) + source
    for arguments in (["check", "--quiet", "--fix-only", "--select", "I"], ["format", "--quiet"]):
        command = [
            sys.executable,
            "-m",
            "ruff",
            *arguments,
            "--stdin-filename",
            str(CLIENTS / f"{name}.py"),
            "-",
        ]
        source = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    return source


def main(argv: list[str] | None = None) -> int:
    """Write or compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; 1 where a file is out of date")
    check = parser.parse_args(argv).check
    stale = []
    for name in MODULES:
        written = CLIENTS / f"{name}.py"
        wanted = blocking((CLIENTS / "asynchronous" / f"{name}.py").read_text(), name)
        if written.exists() and written.read_text() == wanted:
            continue
        stale.append(str(written.relative_to(CLIENTS.parent)))
        if not check:
            written.write_text(wanted)
    if stale and check:
        print(f"not what scripts/sync_clients.py writes: {', '.join(stale)}; run it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
