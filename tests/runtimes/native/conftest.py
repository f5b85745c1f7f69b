"""The library of kernels, built where a checkout has none or an old one."""

from __future__ import annotations

import pytest

from thick.runtimes.native import build, library


@pytest.fixture(scope="session", autouse=True)
def kernels() -> None:
    """Skips where there is no compiler."""
    need_kernels()


def need_kernels() -> None:
    """Skips where there is no library and no compiler."""
    try:
        library.library()
    except library.NativeUnavailable:
        try:
            build.build()
        except build.BuildError as error:
            pytest.skip(str(error))
