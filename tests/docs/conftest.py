"""One service with the bundled models for all pages: real weights, small searches, so that a page takes seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import Address, serving
from tests.docs.blocks import ROOT

SMALL = {"samples": 16, "iterations": 1, "elites": 4, "horizon": 4, "simulations": 4, "depth": 2}


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model repository of the checkout, with small planner settings in its manifests."""
    folder = tmp_path_factory.mktemp("docs") / "checkpoints"
    shutil.copytree(ROOT / "checkpoints", folder)
    for file in folder.glob("*/*/manifest.json"):
        manifest = json.loads(file.read_text())
        manifest["planner"].update(SMALL)
        file.write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def address(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Where it listens."""
    with serving(bundled, tmp_path_factory.mktemp("docs-service") / "serve.log") as up:
        yield up
