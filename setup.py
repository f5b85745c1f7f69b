"""Builds the native runtime's library while the package is installed; all else is in pyproject.toml.

Without a C compiler the installation goes on, and another runtime is used.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = Path("thick", "runtimes", "native")


def builder() -> Any:
    """``thick/runtimes/native/build.py``, without importing the package around it."""
    spec = importlib.util.spec_from_file_location("thick_native_build", ROOT / PACKAGE / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildKernels(build_ext):
    """A plain shared library in place of an extension module."""

    def build_extension(self, ext: Extension) -> None:
        """Compile it where the package will be, or say why not."""
        made = builder()
        place = Path(self.build_lib) / PACKAGE
        place.mkdir(parents=True, exist_ok=True)
        try:
            made.build(place / made.LIBRARY)
        except made.BuildError as error:
            if os.environ.get("THICK_REQUIRE_NATIVE"):
                raise SystemExit(f"error: {error}") from error
            print(f"warning: no native runtime, another one will be used: {error}", file=sys.stderr)

    def copy_extensions_to_source(self) -> None:
        """An editable installation runs in the checkout: the library goes there."""
        name = builder().LIBRARY
        built = Path(self.build_lib) / PACKAGE / name
        if built.exists():
            shutil.copy2(built, ROOT / PACKAGE / name)

    def get_outputs(self) -> list[str]:
        """What the wheel holds of it."""
        file = Path(self.build_lib) / PACKAGE / builder().LIBRARY
        return [str(file)] if file.exists() else []

    def get_output_mapping(self) -> dict[str, str]:
        """Nothing is copied into an editable checkout: it is built in place."""
        return {}


class PlatformWheel(bdist_wheel):
    """Bound to a platform, not to a version of Python: the library knows nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """``py3-none-<platform>``"""
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        return "py3", "none", platform


setup(
    ext_modules=[Extension("thick.runtimes.native.libthick", sources=[])],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": PlatformWheel},
)
