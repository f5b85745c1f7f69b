"""The nearest right name, as messages offer it."""

from __future__ import annotations

from thick.nearest import did_you_mean, nearest


def test_the_nearest_name_is_found_whatever_its_case() -> None:
    assert nearest("Horizn", ["depth", "horizon", "samples"]) == "horizon"
    assert nearest("boxx", ["Box", "Dict"]) == "Box"
    assert nearest("xyz", ["horizon", "samples"]) is None and nearest("x", []) is None


def test_a_message_offers_the_name_or_nothing() -> None:
    assert did_you_mean("--prot", ["--port", "--host"]) == "; did you mean '--port'?"
    assert did_you_mean("tsk", ["task"], prefix="family:") == "; did you mean 'family:task'?"
    assert did_you_mean("xyz", ["task"]) == ""
