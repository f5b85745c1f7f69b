"""The `thick` program as a stranger meets it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from thick import cli

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = sorted(PROJECT["entry-points"][cli.GROUP])


def _stand_in(
    monkeypatch: pytest.MonkeyPatch, run: object, name: str = "train", value: str = "nowhere:command"
) -> None:
    """Make ``thick NAME`` run ``run``."""
    point = EntryPoint(name=name, value=value, group=cli.GROUP)
    monkeypatch.setattr(cli, "discover", lambda: {name: point})
    monkeypatch.setattr(cli, "load", lambda _: cli.Command(name, "A summary.", run))  # type: ignore[arg-type]


def test_the_installed_program_knows_every_declared_command() -> None:
    assert sorted(cli.discover()) == COMMANDS


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_list_shows_every_command_with_its_summary(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "not available" not in shown
    assert all(f"  {code} " in shown and meaning in shown for code, meaning in cli.EXIT_CODES.items())
    for name, point in cli.discover().items():
        assert f"  {name} " in shown
        assert cli.load(point).summary in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_declared_name_and_a_one_line_summary(name: str) -> None:
    command = cli.load(cli.discover()[name])
    assert command.name == name
    assert 10 < len(command.summary) <= 100
    assert "\n" not in command.summary


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main([name, "--help"])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    shown = capsys.readouterr().out
    assert code == 0
    assert "usage" in shown.lower()
    assert name in shown


@pytest.mark.parametrize(
    "line",
    [
        "evaluate x --episodes 0", "evaluate x --parallel 0", "evaluate x --threads 0", "evaluate x --max-steps -1",
        "evaluate x --seed -1", "evaluate x --within 0", "explain x --episodes 0", "explain x --max-steps -4",
        "explain x --seed -1", "explain --url http://x --model m --episodes 0",
        "imagine --model m --out x.png --steps -1",
        "imagine --model m --out x.png --rollouts 0", "imagine --model m --out x.png --future 0",
        "imagine --model m --out x.png --seed -1", "drive --model m --seed -1", "drive --model m --episodes 1.5",
        "drive --model m --hz nan", "drive --model m --timeout 0", "drive --model m --latency-ms inf",
        "demo --episodes 0",
        "demo --parallel 0", "collect --env x --out y --steps 0", "collect --env x --out y --streams 0",
        "collect --env x --out y --seed -1", "sweep x --jobs -1",
    ],
)  # fmt: skip
def test_a_number_that_a_command_cannot_do_with_is_refused_in_words(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line.split()
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert re.search(
        rf"argument {words[-2]}: expected (at least|a whole number|a number).*, got", capsys.readouterr().err
    )


def test_help_before_the_name_is_help_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    _stand_in(monkeypatch, lambda argv: seen.append(argv))
    assert cli.main(["help", "train"]) == 0
    assert cli.main(["train", "--help"]) == 0
    assert seen == [["--help"], ["--help"]]


def test_an_unknown_command_is_answered_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dirve", "--episodes", "3"]) == 2
    said = capsys.readouterr().err
    assert "no command 'dirve'" in said
    assert "Did you mean `thick drive`?" in said
    assert all(name in said for name in COMMANDS)


def test_a_word_that_is_near_nothing_gets_the_list_without_a_guess(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["zzzzzz"]) == 2
    said = capsys.readouterr().err
    assert "Did you mean" not in said
    assert "train" in said


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_the_one_of_the_project(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([flag]) == 0
    assert capsys.readouterr().out.strip() == f"thick {PROJECT['version']}"


def test_arguments_reach_the_command_and_its_exit_code_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(argv: list[str]) -> int:
        seen.append(argv)
        return 7

    _stand_in(monkeypatch, run)
    assert cli.main(["train", "--steps", "3"]) == 7
    assert seen == [["--steps", "3"]]


@pytest.mark.parametrize(
    ("module", "extra"), [("torch", "[train]"), ("gymnasium.spaces", "[envs]"), ("httpx", "'thick-planner'")]
)
def test_a_missing_package_is_answered_with_what_to_install(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(argv: list[str]) -> int:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    _stand_in(monkeypatch, run)
    assert cli.main(["train"]) == 2
    said = capsys.readouterr().err
    assert module.partition(".")[0] in said
    assert extra in said


@pytest.mark.parametrize(
    ("module", "extra"),
    [("torch", "service"), ("safetensors", "serve"), ("gymnasium", "serve"), ("grpc", "serve")],
)
def test_what_is_missing_from_the_service_asks_for_the_extra_of_the_service(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(argv: list[str]) -> int:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    _stand_in(monkeypatch, run, name="serve", value="service.commands:serve")
    assert cli.main(["serve"]) == 2
    assert f"'thick-planner[{extra}]'" in capsys.readouterr().err


def test_a_missing_module_of_the_project_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'thick.nothing'", name="thick.nothing")

    _stand_in(monkeypatch, run)
    with pytest.raises(ModuleNotFoundError, match=r"thick\.nothing"):
        cli.main(["train"])


def test_a_command_that_lacks_its_package_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {**cli.discover(), "other": EntryPoint("other", "a_module_that_is_not_there:command", cli.GROUP)}
    monkeypatch.setattr(cli, "discover", lambda: points)
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert "not available" in next(line for line in shown.splitlines() if line.startswith("  other"))
    assert cli.load(points["serve"]).summary in shown


@pytest.mark.parametrize("value", ["json:nothing", "json:dumps", "json:"])
def test_an_entry_point_of_others_that_is_wrong_does_not_hide_the_others(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {**cli.discover(), "other": EntryPoint("other", value, cli.GROUP)}
    monkeypatch.setattr(cli, "discover", lambda: points)
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert "  other     (not available: " in shown and cli.load(points["serve"]).summary in shown


def test_an_entry_point_that_is_no_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("odd", "json:dumps", cli.GROUP)
    monkeypatch.setattr(cli, "discover", lambda: {"odd": point})
    with pytest.raises(TypeError, match=r"odd = 'json:dumps'.*expected a thick\.cli\.Command, got function"):
        cli.main(["odd"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "nothing"],
        ["export", "nothing", "--onnx"],
        ["evaluate", "nothing"],
        ["explain", "nothing"],
        ["train", "--run", "nothing", "--resume"],
        ["train", "--preset", "nothing"],
        ["collect", "--env", "nothing:here", "--out", "data"],
        ["sweep", "nothing.yaml"],
        ["models", "--models", "nothing"],
        ["models", "nothing", "--models", "."],
        ["serve", "--models", "nothing"],
        ["demo", "--models", "nothing"],
        ["drive", "--model", "nothing", "--url", "http://127.0.0.1:9", "--episodes", "1"],
        ["drive", "--model", "nothing", "--url", "nothing://here"],
        ["imagine", "--model", "nothing", "--url", "http://127.0.0.1:9", "--out", "sheet.png"],
        ["explain", "--model", "nothing", "--url", "http://127.0.0.1:9"],
    ],
)
def test_what_cannot_be_done_as_asked_is_one_line_and_exit_code_2_of_every_command(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"thick {arguments[0]}: ") and said.count("\n") == 1


def test_what_fails_on_the_way_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from clients.errors import ConnectionLostError

    def goes_away(argv: list[str]) -> int:
        raise ConnectionLostError("http://here", "act on session s", "the connection broke")

    for name in ("drive", "imagine", "demo"):
        monkeypatch.setattr(f"clients.{name}.run", goes_away)
        assert cli.main([name, "--model", "m"]) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_an_interrupted_command_leaves_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(argv: list[str]) -> int:
        raise KeyboardInterrupt

    _stand_in(monkeypatch, run)
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == "thick: interrupted\n"


def test_a_reader_that_goes_away_leaves_no_traceback() -> None:
    code = "import sys; sys.argv = ['thick']; from thick.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert process.returncode == 1


def test_each_hint_names_an_extra_of_the_project() -> None:
    assert set(cli.EXTRA_OF_MODULE.values()) <= set(PROJECT["optional-dependencies"])
