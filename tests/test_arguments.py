"""Command lines are checked before the work begins: the places that they name, and their flags."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from thick import cli
from thick.arguments import Parser, file_to_write, folder_to_write


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder, a file, a link to the folder, and links that lead nowhere."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "text", ["folder", "link", "folder/new/deep", "link/new", ".", "new", "../elsewhere"]
)
def test_a_folder_that_is_there_or_can_be_made_is_taken_and_nothing_is_made(here: Path, text: str) -> None:
    before = sorted(here.rglob("*"))
    assert folder_to_write(text) == Path(text)
    assert file_to_write()(f"{text}/result.json") == Path(text, "result.json")
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty text"),
        (" ", "an empty text"),
        ("file", "file is no folder"),
        ("file/new", "file is no folder"),
        ("dangling", "dangling is a link to what is not there"),
        ("dangling/new", "dangling is a link to what is not there"),
        ("circle/new", "circle is a link to what is not there"),
        ("n" * 300, "cannot be used: File name too long"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_in_words(here: Path, text: str, words: str) -> None:
    with pytest.raises(ArgumentTypeError, match=words):
        folder_to_write(text)
    if text.strip():
        with pytest.raises(ArgumentTypeError, match=words):
            file_to_write()(f"{text}/result.json")


def test_a_file_is_no_folder_and_has_an_ending_that_says_what_it_is(here: Path) -> None:
    read = file_to_write(".png", ".gif")
    assert read("folder/film.GIF") == Path("folder/film.GIF")
    for text, words in (
        ("", "an empty text"),
        ("film", r"a name ending in .png or .gif, got film"),
        ("film.txt", r"a name ending in .png or .gif, got film.txt"),
    ):
        with pytest.raises(ArgumentTypeError, match=words):
            read(text)
    with pytest.raises(ArgumentTypeError, match="folder is a folder: name a file in it"):
        file_to_write()("folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_closed_to_us_is_refused(here: Path) -> None:
    (here / "folder").chmod(0o500)
    with pytest.raises(ArgumentTypeError, match="folder cannot be written"):
        folder_to_write("folder/new")


@pytest.mark.parametrize(
    "line",
    [
        ["train", "--env", "pinpad:three", "--run", ""],
        ["train", "--env", "pinpad:three", "--run", "file"],
        ["collect", "--env", "pinpad:three", "--steps", "10", "--out", "file"],
        ["export", "folder", "--out", "dangling"],
        ["evaluate", "folder", "--json", "folder"],
        ["explain", "folder", "--out", "file/x"],
        ["drive", "--model", "m", "--url", "http://127.0.0.1:9", "--json", "folder"],
        ["drive", "--model", "m", "--url", "http://127.0.0.1:9", "--gif", "film.txt"],
        ["imagine", "--model", "m", "--url", "http://127.0.0.1:9", "--out", "sheet.txt"],
        ["demo", "--out", "file"],
    ],
    ids=lambda line: f"{line[0]} {line[-1]}",
)
def test_every_command_checks_its_places_before_it_begins(
    here: Path, line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        cli.main(line)
    assert caught.value.code == 2
    assert f"argument {line[-2]}: " in capsys.readouterr().err
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["train", "--env", "pinpad:three", "--planner", "{low: cem"], "--planner: not valid YAML: "),
        (["train", "--env", "pinpad:three", "--env_options", "{n: 3"], "--env_options: not valid YAML: "),
        (["train", "--preset", "bad.yaml"], "bad.yaml: not valid YAML: "),
        (["train", "--preset", "bytes.yaml"], "bytes.yaml: 'utf-8' codec"),
        (["sweep", "bad.yaml"], "bad.yaml: not valid YAML: "),
        (["export", "folder", "--set", "samples={a"], "--set samples: not valid YAML: "),
        (["collect", "--env", "pinpad:three", "--out", "new", "--option", "x={a"], "--option: x: not valid YAML: "),
        (["collect", "--env", "pinpad:three", "--out", "new", "--option", "x"], "--option: expected NAME=VALUE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_is_no_yaml_is_refused_in_one_line_that_names_where_it_stands(
    here: Path, line: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad.yaml").write_text("a: [\nb")
    (here / "bytes.yaml").write_bytes(b"a: \xff\xfe")
    before = sorted(here.rglob("*"))
    try:
        code = cli.main(line)
    except SystemExit as error:
        code = int(error.code or 0)
    said = capsys.readouterr().err
    assert code in (1, 2) and "Traceback" not in said
    (reason,) = [each for each in said.splitlines() if words in each]
    assert said.rstrip().endswith(reason), "the reason is the last line"
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["drive", "--modle", "doorkey6"], "--modle; did you mean '--model'?"),  # another one is missing, too
        (["imagine", "--hroizon=3"], "--hroizon; did you mean '--horizon'?"),
        (["evaluate", "--episods", "3", "x"], "--episods; did you mean '--episodes'?"),
        (["sweep", "--jbos", "2", "x"], "--jbos; did you mean '--jobs'?"),
        (["collect", "--zzzzzz"], "--zzzzzz\n"),
    ],
)
def test_a_flag_that_is_none_is_refused_first_and_the_nearest_is_named(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert f"unrecognized arguments: {said}" in capsys.readouterr().err


def test_flags_may_be_shortened_and_end_where_two_dashes_stand() -> None:
    parser = Parser()
    parser.add_argument("--episodes", type=int)
    parser.add_argument("rest", nargs="*")
    found = parser.parse_args(["--epi", "3", "--", "--modle"])
    assert found.episodes == 3 and found.rest == ["--modle"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--modle"])
