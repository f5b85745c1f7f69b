"""The kernels on other machines, as far as they can be had here: arm64 by an emulator."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from thick.runtimes.native import build, library

GOLDEN = "f5db12e9067812f8"
"""of outputs.c on every machine"""
PROGRAM = Path(__file__).with_name("outputs.c")


def compiled(folder: Path, compiler: str, machine: str) -> Path:
    """The program of ``outputs.c`` with the kernels for a machine."""
    objects: list[str] = []
    flags = [*build.FLAGS, "-O1", "-I", str(build.SOURCES)]
    for name, lanes, more in build.INSTRUCTIONS[machine]:
        objects.append(str(folder / f"{name}.o"))
        names = [f"-DLANES={lanes}", f"-DNAME=thick_{name}", *more]
        kernel = str(build.SOURCES / "kernel.c")
        subprocess.run([compiler, *flags, *names, "-c", kernel, "-o", objects[-1]], check=True)
    once = [str(build.SOURCES / f"{name}.c") for name in build.ONCE]
    sources = ['-DTHICK_SOURCES="test"', *once, str(PROGRAM)]
    program = folder / "outputs"
    linked = ["-static", "-lm", "-o", str(program)]
    subprocess.run([compiler, *flags, *sources, *objects, *linked], check=True)
    return program


@pytest.mark.slow
def test_every_instruction_set_prints_the_same_bits(tmp_path: Path) -> None:
    if shutil.which("cc") is None or build.machine() not in build.INSTRUCTIONS:
        pytest.skip("no C compiler")
    program = compiled(tmp_path, "cc", build.machine())
    for name in library.available():
        which = str(library.INSTRUCTIONS.index(name))
        printed = subprocess.run([program, which], capture_output=True, text=True, check=True).stdout
        assert printed.strip() == GOLDEN, name


@pytest.mark.slow
def test_arm64_prints_the_same_bits(tmp_path: Path) -> None:
    compiler, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip("needs the Debian packages gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user")
    program = compiled(tmp_path, compiler, "aarch64")
    printed = subprocess.run([emulator, program, "0"], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == GOLDEN
