"""Searches in numpy give the same bits with every instruction set that numpy can use."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

CODE = """
import hashlib, sys
import numpy as np
from tests.planning.plain import Bandit, searched
from thick.arrays import NUMPY
from thick.planning.gumbel import GumbelSearch
from thick.planning.mcts import MCTS
from thick.planning.randomness import Randomness

assert "torch" not in sys.modules
found = []
source = Randomness(np.arange(5))
numbers = source.normal(997)
found += [numbers, source.gumbel(997), NUMPY.exp(numbers), NUMPY.softmax(numbers), NUMPY.std(numbers, 1)]
for low in ("cem", "icem", "mppi", "categorical-cem"):
    found += searched(low)
rng = np.random.default_rng(0)
model = Bandit(rng.dirichlet(np.ones(7), 5), rng.standard_normal((5, 7)))
for kind in (MCTS, GumbelSearch):
    tree = kind(model, simulations=30, depth=3)
    while not tree.done:
        tree.step()
    found += [tree.root_values, tree.root_visits]
print(hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in found)).hexdigest())
"""


def bits(**variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_search_has_the_same_bits_where_numpy_may_use_no_vector_instructions() -> None:
    dispatched = getattr(np._core._multiarray_umath, "__cpu_dispatch__", [])
    features = getattr(np._core._multiarray_umath, "__cpu_features__", {})
    here = [name for name in dispatched if features.get(name)]
    if not here:
        pytest.skip("numpy dispatches nothing here")
    assert bits(NPY_DISABLE_CPU_FEATURES=" ".join(here)) == bits()
