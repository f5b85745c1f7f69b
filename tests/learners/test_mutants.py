"""The mistakes that scripts/mutants.py plants fit the losses as they are now."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_mistake_can_be_planted() -> None:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "scripts/mutants.py")
    assert spec is not None and spec.loader is not None
    mutants = sys.modules["mutants"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mutants)
    stale = [
        f"{mutant.file}: {mutant.right}"
        for mutant in mutants.MUTANTS
        if (ROOT / mutant.file).read_text().count(mutant.right) == 0
    ]
    assert not stale, "mend scripts/mutants.py"
    missing = {test for mutant in mutants.MUTANTS for test in mutant.tests if not (ROOT / test).exists()}
    assert not missing
