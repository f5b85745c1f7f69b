"""The model computes what the reference computes, number by number.

``THICK_PARITY_DIR`` names another folder of fixtures. Every quantity that a fixture expects is a test of its
own; one that nothing here computes fails.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity import fixture as fixtures
from tests.parity.reproduce import reproduce

OWN = Path(__file__).parent / "fixtures"
FOLDER = Path(os.environ.get("THICK_PARITY_DIR") or OWN)

RELATIVE = 2e-5
SUMMED = 1e-4
"""for log-probabilities, which are sums over many entries"""

FILES = sorted(FOLDER.glob("*.safetensors"))
CASES = [(path, name) for path in FILES for name in fixtures.quantities(path)]


@cache
def read(path: Path) -> fixtures.Fixture:
    return fixtures.read(path)


@cache
def computed(path: Path) -> dict[str, Tensor]:
    return reproduce(read(path))


def deviation(found: Tensor, expected: Tensor, mask: Tensor | None = None) -> float:
    """Largest difference, relative to the entry itself or to the size that entries around it typically have.

    Args:
        mask: ``[B, T, 1]``; entries under 0 hold a filling and are compared among themselves.
    """
    found, expected = (part.detach().double() for part in (found, expected))
    if mask is not None and mask.shape[:2] == expected.shape[:2]:
        inside = mask[..., 0] > 0
        parts = [part for part in (inside, ~inside) if part.any()]
        return max(deviation(found[part], expected[part]) for part in parts)
    typical = expected.square().mean().sqrt()
    scale = torch.maximum(expected.abs(), typical)
    difference = (found - expected).abs()
    # Nothing but zeros expected: nothing but zeros will do.
    relative = torch.where(difference == 0, 0.0, difference / scale)
    return float(relative.max()) if bool(relative.isfinite().all()) else float("inf")


def check(name: str, found: dict[str, Tensor], fixture: fixtures.Fixture) -> None:
    """Compare one quantity of a fixture with what was computed."""
    if name not in found:
        raise AssertionError(f"{name}: the fixture expects it, and no comparison covers it")
    expected = fixture.expected[name]
    value = found[name].reshape(1) if found[name].dim() == 0 else found[name]
    assert tuple(value.shape) == tuple(expected.shape), f"{name}: {value.shape}, expected {expected.shape}"
    mask = (
        fixture.expected.get("thick_targets.mask") if name.startswith(("thick.", "thick_targets.")) else None
    )
    tolerance = SUMMED if name.endswith("log_prob") else RELATIVE
    off = deviation(value, expected, mask)
    assert off <= tolerance, f"{name}: off by {off:.1e} (relative), tolerance {tolerance:.0e}"


def test_the_folder_of_fixtures_is_not_empty() -> None:
    assert FILES, f"no *.safetensors in {FOLDER.resolve()} (THICK_PARITY_DIR names the folder)"
    assert CASES, f"the fixtures of {FOLDER.resolve()} expect nothing"


@pytest.mark.parametrize(("path", "name"), CASES, ids=[f"{path.stem}-{name}" for path, name in CASES])
def test_a_quantity_is_what_the_reference_computes(path: Path, name: str) -> None:
    check(name, computed(path), read(path))


@pytest.mark.parametrize("path", sorted(OWN.glob("*.safetensors")), ids=lambda path: path.stem)
def test_a_number_that_is_slightly_off_is_noticed_wherever_it_is(path: Path) -> None:
    whole, found = read(path), computed(path)
    for name, expected in whole.expected.items():
        spoilt = expected.clone()
        largest = spoilt.abs().argmax()
        spoilt.view(-1)[largest] = spoilt.view(-1)[largest] * 1.001 + 1e-6
        with pytest.raises(AssertionError, match="off by"):
            check(name, found, whole._replace(expected={**whole.expected, name: spoilt}))


def test_a_quantity_that_nothing_computes_fails() -> None:
    path = sorted(OWN.glob("*.safetensors"))[0]
    whole = read(path)
    more = whole._replace(expected={**whole.expected, "crssm.something_new": torch.zeros(1)})
    with pytest.raises(AssertionError, match="no comparison covers it"):
        check("crssm.something_new", computed(path), more)
