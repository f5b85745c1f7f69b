"""Settings that every test shares; set before torch, numpy and MuJoCo are imported, which read them once."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from itertools import chain, groupby
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

# The models under test are tiny: more threads only add waiting, and CI says how many it wants.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# gymnasium's checker opens minigrid's window. On a machine without a screen SDL would draw it with EGL and
# shut EGL down afterwards, for the whole process: dm_control could not draw any more.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

# No deadline: the first example pays for imports and lazy initialisation. In CI the examples stay the same.
settings.register_profile("local", deadline=None, max_examples=20)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Thousands of tests are thousands of objects that stay: looking through them for rubbish takes a third of the time
# of collecting, and time of every test after it.
gc.disable()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    result = yield
    gc.freeze()
    gc.enable()
    return result


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What a run or a service chose of torch's threads ends with the test: in the next they would wait in turns."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """With ``--dist loadfile`` the tests of a cluster are one unit too: two clusters at once starve each other."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/cluster/" if nodeid.startswith("tests/cluster/") else super()._split_scope(nodeid)

    return Scheduling(config, log)


WAITING = ("tests/faults/", "tests/ui/", "tests/docs/", "tests/clients/", "tests/cluster/")
"""whose tests mostly wait for other processes"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that mostly wait come between those that compute, and early: a process that is done last is alone.

    Clusters of a test alone come and go before that starts which the other tests share.
    """
    alone = ("tests/cluster/test_scaling", "tests/cluster/test_sweeps")
    items.sort(key=lambda test: not test.nodeid.startswith(alone))
    files = [list(tests) for _, tests in groupby(items, lambda test: test.path)]
    waiting = [tests for tests in files if tests[0].nodeid.startswith(WAITING)]
    others = [tests for tests in files if not tests[0].nodeid.startswith(WAITING)]
    spread = [(2 * index, tests) for index, tests in enumerate(others)]
    spread += [(5 * index, tests) for index, tests in enumerate(waiting)]
    items[:] = chain.from_iterable(tests for _, tests in sorted(spread, key=lambda placed: placed[0]))
