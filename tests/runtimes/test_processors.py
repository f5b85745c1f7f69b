"""A session's bits do not depend on its batch, also on lesser processors than this one: libraries are held down.

What a matrix product adds up first depends on the kernels that a library chooses for a processor. Each of these runs
chooses others, in a process of its own, since libraries look at the variables once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = [
    "tests/planning/test_agent.py::test_the_place_in_a_batch_of_any_size_changes_no_bit",
    "tests/runtimes/test_torch_model.py::test_a_row_is_multiplied_as_if_it_were_alone",
    "tests/runtimes/test_torch_encoder.py",
]
HELD_DOWN = {
    "ATen for AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "ATen without vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "oneDNN and MKL for AVX2, reproducible": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "all for AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "MKL for SSE 4.2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HELD_DOWN)
def test_bits_do_not_depend_on_the_batch_where_libraries_are_held_down(name: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *TESTS,
            "-k",
            "not flat and not policy",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), **HELD_DOWN[name]},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
