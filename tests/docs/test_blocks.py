"""Every command that the pages show is one that exists, and every block says why it is not run, where it is not."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import itertools
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.docs.blocks import OTHER, PAGES, PROGRAMS, PYTHON, ROOT, SHELL, Block, blocks, commands, inline
from thick import cli

BLOCKS = [block for page in PAGES for block in blocks(page)]
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
_FOLDER = ROOT / "thick" / "training" / "presets"
PRESETS = {
    name
    for file in _FOLDER.rglob("*.yaml")
    for name in (file.stem, file.relative_to(_FOLDER).with_suffix("").as_posix())
}


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == SHELL], ids=lambda b: b.place)
def test_every_shell_block_uses_commands_and_flags_that_exist(block: Block) -> None:
    wrong = [problem for command in commands(block.text) for problem in problems(command)]
    assert not wrong, f"{block.place}: {'; '.join(wrong)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_within_a_sentence_exists(page: Path) -> None:
    wrong = []
    for line, span in inline(page):
        if not re.match(r"(\.venv/bin/)?(thick|make|pip|scripts/\S+|python) ", span):
            continue
        wrong += [f"line {line}: {problem}" for command in commands(span) for problem in problems(command)]
    assert not wrong


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == PYTHON], ids=lambda b: b.place)
def test_every_python_block_compiles_and_imports_what_there_is(block: Block) -> None:
    tree = ast.parse(block.text, block.place)
    compile(tree, block.place, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and _is_ours_or_installed(node.module or ""):
            module = importlib.import_module(node.module or "")
            lacking = [alias.name for alias in node.names if not _has(module, alias.name)]
            assert not lacking, f"{block.place}: {node.module} has no {', '.join(lacking)}"


def _is_ours_or_installed(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None or name.startswith(
        ("thick", "clients")
    )


def _has(module: object, name: str) -> bool:
    if hasattr(module, name):
        return True
    with contextlib.suppress(ImportError):
        importlib.import_module(f"{module.__name__}.{name}")  # type: ignore[attr-defined]
        return True
    return False


def test_a_block_that_is_not_run_says_why_or_which_test_runs_it() -> None:
    for block in BLOCKS:
        if block.marker is None:
            continue
        kind, text = block.marker
        if kind == "run by":
            assert (ROOT / text.partition("::")[0]).exists(), f"{block.place}: there is no test {text}"
        else:
            assert len(text) > 5, f"{block.place}: say why it cannot run where tests run"


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.marker and b.marker[0] == "run by"], ids=lambda b: b.place
)
def test_the_test_that_runs_a_block_knows_of_what_it_shows(block: Block) -> None:
    assert block.marker is not None
    text = (ROOT / block.marker[1].partition("::")[0]).read_text()
    if block.page.name in text:
        return  # it reads the page
    if block.language == PYTHON:
        shown = {
            node.module or ""
            for node in ast.walk(ast.parse(block.text))
            if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith(("clients", "thick"))
        }
    else:
        shown = {
            word
            for command in commands(block.text)
            for word in [*command[1:2], *(word for word in command if word.startswith("--"))]
        }
    assert shown and not [word for word in shown if word not in text], block.place


def test_no_command_stands_where_the_tests_do_not_look() -> None:
    hidden = [
        f"{block.place}: {line}"
        for block in BLOCKS
        if block.language == OTHER
        for line in block.text.splitlines()
        if re.match(
            r"\s*(\$ )?([A-Z_]+=\S+ |sudo |nice |exec )*(\S*/)?(" + "|".join(sorted(PROGRAMS)) + r") [\w./-]",
            line,
        )
    ]
    for page in PAGES:
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if re.match(r"\s*(~~~|\t\S|<(pre|code)\b)", line):
                hidden.append(f"{page.relative_to(ROOT)}:{number}: {line}")
    assert not hidden, (
        "a block of commands is fenced with ```bash, or indented by four spaces and begins with one"
    )


def _told() -> list[tuple[str, str]]:
    """Commands in docstrings of Python files, and in comments of the files that are no Python."""
    found: list[tuple[str, str]] = []
    folders = ("thick", "service", "clients", "benchmarks", "experiments", "examples", "scripts")
    for file in sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                lines = [line for line in text.splitlines() if line.startswith("    ")]
                lines += re.findall(r"``([^`]+)``", " ".join(text.split()))
                found += [(str(file.relative_to(ROOT)), line.strip()) for line in lines]
    others = [
        ROOT / "Dockerfile",
        ROOT / "Makefile",
        *ROOT.glob("*/*.yaml"),
        *(ROOT / "scripts").glob("*.sh"),
    ]
    for file in others:
        comments = [line.lstrip("# ") for line in file.read_text().splitlines() if line.startswith("#")]
        lines = [*comments, *(span for line in comments for span in re.findall(r"`([^`]+)`", line))]
        found += [(str(file.relative_to(ROOT)), line) for line in lines]
    return [(place, line) for place, line in found if re.match(r"(thick|make|pip|scripts/\S+|python) ", line)]


def test_every_command_that_a_docstring_shows_exists() -> None:
    told = _told()
    assert len(told) > 60
    wrong = [
        f"{place}: {problem}"
        for place, line in told
        if line.count("'") % 2 == 0
        for command in commands(line)
        for problem in problems(command)
    ]
    assert not wrong


def test_a_fence_says_its_language() -> None:
    nameless = []
    for page in PAGES:
        opened = False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.lstrip().startswith("```"):
                opened = not opened
                if opened and line.strip() == "```":
                    nameless.append(f"{page.relative_to(ROOT)}:{number}")
    assert not nameless, f"write ```bash, ```python, ```json, ```text …: {', '.join(nameless)}"


# ---- what is wrong with a command


def problems(command: list[str]) -> list[str]:
    """What is wrong with a command of ours; commands of others are left alone."""
    program, rest = Path(command[0]).name, command[1:]
    if program.startswith("python") and rest[:2] == ["-m", "thick"]:
        program, rest = "thick", rest[2:]
    if program == "thick":
        return _of_thick(rest)
    if program == "make":
        return _of_make(rest)
    if program in ("pip", "pipx") and "install" in rest:
        return _of_pip(rest)
    if command[0].startswith("scripts/"):
        return _of_file(command[0], rest)
    if (file := started(command)) is not None:
        return _of_file(file, rest[2 if rest[0] == "-m" else 1 :])
    return []


def started(command: list[str]) -> str | None:
    """The file of ours that a command of Python starts, by its path or as a module."""
    if not Path(command[0]).name.startswith("python") or len(command) < 2:
        return None
    if command[1].endswith(".py"):
        return command[1]
    module = command[2] if command[1] == "-m" and len(command) > 2 else ""
    ours = module.partition(".")[0] in ("benchmarks", "experiments", "examples", "scripts")
    return module.replace(".", "/") + ".py" if ours else None


def _of_thick(words: list[str]) -> list[str]:
    if not words or words[0].startswith("-") or words[0].isupper():
        return []  # `thick --help`, `thick COMMAND`
    name, rest = words[0], words[1:]
    if name not in {*cli.discover(), "help"}:
        return [cli.unknown_command(name, cli.discover())]
    known = flags(name) if name != "help" else set()
    found = []
    for word in rest:
        flag = word.partition("=")[0]
        if re.match(r"--\w", flag) and flag not in known and flag.replace("-", "_") not in known:
            found.append(f"`thick {name}` has no flag {flag}")
    for preset in (after for word, after in itertools.pairwise(rest) if word == "--preset"):
        named = re.sub("[-/]", "", preset)
        if not re.search(r"\W|^[A-Z]+$", named) and preset not in PRESETS:
            found.append(f"there is no preset {preset}; there are {', '.join(sorted(PRESETS))}")
    return found


@cache
def flags(name: str) -> set[str]:
    """The flags of a subcommand, as its help lists them; of ``thick train`` the fields as well."""
    known = set(re.findall(r"--[a-z][\w.-]*", said("thick", name, "--help")))
    if name == "train":
        known |= {
            f"--{field}"
            for field in re.findall(r"^\s*(?:--)?([a-z][\w.]*)", said("thick", name, "--fields"), re.M)
        }
    return {flag.rstrip(".") for flag in known} | {"--help"}


def said(*command: str) -> str:
    """What a subcommand prints, run in this process."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        cli.main(list(command[1:]))
    return out.getvalue()


def _of_make(words: list[str]) -> list[str]:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [word for word in words if not word.startswith("-") and "=" not in word and not word.isupper()]
    return [f"the Makefile has no target {word}" for word in asked if word not in targets]


def _of_pip(words: list[str]) -> list[str]:
    extras = {
        extra
        for word in words
        for found in re.findall(r"^(?:\.|thick-planner)\[(.+)\]$", word)
        for extra in found.split(",")
    }
    wrong = [f"pyproject.toml has no extra {extra}" for extra in sorted(extras - EXTRAS)]
    if any(re.match(r"thick(\[|$)", word) for word in words):
        wrong.append("`thick` on the package index is another project: this one is thick-planner")
    return wrong


def _of_file(name: str, words: list[str]) -> list[str]:
    file = ROOT / name
    if not file.exists():
        return [f"there is no file {name}"]
    around = [file, *file.parent.rglob("*.py")] if file.suffix == ".py" else [file]
    text = "\n".join(each.read_text() for each in around)
    asked = [word.partition("=")[0].strip("[]") for word in words if re.match(r"\[?--\w", word)]
    # In Python it must be defined, and not only told of.
    quoted = r"[\"']{}[\"']" if file.suffix == ".py" else r"{}(?![\w-])"
    return [
        f"{name} has no flag {flag}"
        for flag in asked
        if flag != "--help" and not re.search(quoted.format(re.escape(flag)), text)
    ]


def _started() -> list[str]:
    """Every Python file that a page or a docstring starts."""
    shell = [block.text for block in BLOCKS if block.language == SHELL]
    shell += [
        span for page in PAGES for _, span in inline(page) if re.match(r"(\.venv/bin/)?python3? ", span)
    ]
    shell += [line for _, line in _told() if line.startswith("python ") and line.count("'") % 2 == 0]
    return sorted({file for text in shell for command in commands(text) if (file := started(command))})


@pytest.mark.slow
@pytest.mark.parametrize("name", _started())
def test_every_program_that_a_page_starts_explains_itself(name: str) -> None:
    if name.endswith("litserve_app.py"):
        pytest.importorskip("litserve")
    done = subprocess.run(
        [sys.executable, name, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage:" in done.stdout


# ---- the checks notice what they are for


@pytest.mark.parametrize(
    ("shell", "problem"),
    [
        ("thick dirve --model m", "no command 'dirve'"),
        ("curl -s x | thick drive --modle m", "no flag --modle"),
        ("thick serve --models checkpoints --prot 8000", "no flag --prot"),
        ("thick train --preset cart-pole", "no preset cart-pole"),
        ("thick train --preset cartpole --data.perfill 10", "no flag --data.perfill"),
        ("for x in a b; do\n  thick export \\\n    --nmae x\ndone", "no flag --nmae"),
        ("make instal && make demo", "no target instal"),
        ("python benchmarks/planing.py", "no file benchmarks/planing.py"),
        ("python -m benchmarks.trainng --quick", "no file benchmarks/trainng.py"),
        ("python -m benchmarks.training --quickly", "no flag --quickly"),
        ("python benchmarks/growth.py [--second 3]", "no flag --second"),
        ("python benchmarks/growth.py --measures", "no flag --measures"),
        ("scripts/install.sh --extra all --devise cpu", "no flag --devise"),
        ("pip install '.[trian]'", "no extra trian"),
        ("pip install 'thick[envs]'", "another project"),
        ("id=$(thick modles)", "no command 'modles'"),
    ],
)
def test_a_wrong_command_is_found(shell: str, problem: str) -> None:
    assert problem in "; ".join(p for command in commands(shell) for p in problems(command))


def test_right_commands_pass() -> None:
    shell = """
    # a comment with thick dirve in it
    THICK_PORT=1 thick serve --models checkpoints --grpc-port=8001 > log 2>&1 &
    thick train --preset cartpole --seed 1 --data.prefill 2000 --run runs/c1   # --nothing
    curl -s localhost:8000/v1/act -d '{
      "thick": "dirve --x"}'
    make test ARGS="--no-such-flag" && thick --help
    """
    assert [p for command in commands(shell) for p in problems(command)] == []


def test_markers_and_languages_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text\n\n<!-- not run: needs docker -->\n\n    docker build .\n\nText\n\n"
        "<!-- run by: tests/x.py -->\n```python\nimport os\n```\n\n<!-- not run: for a paragraph -->\nText\n\n"
        "    from a import b\n\n    c\n\nand\n\n    z' ~ fine(h)\n"
    )
    made = [(b.line, b.language, b.marker) for b in blocks(page)]
    assert made == [
        (5, SHELL, ("not run", "needs docker")),
        (11, PYTHON, ("run by", "tests/x.py")),
        (17, PYTHON, None),
        (23, "other", None),
    ]
    assert blocks(page)[2].text == "from a import b\n\nc"
