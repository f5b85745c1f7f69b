"""Builds the library of kernels from ``native/`` with nothing but a C compiler.

``python -m thick.runtimes.native.build`` builds it next to this file, for a checkout; installing the package does the
same. Imports nothing but the standard library, so that an installation can run it before anything is there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ONCE = ("dispatch", "trees")
"""sources that are the same for every instruction set"""
HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[2] / "native"
"""where the C sources are in a checkout; an installed package has none"""
LIBRARY = "libthick.so"

FLAGS = (
    "-std=gnu11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fPIC",
    "-fvisibility=hidden",
    "-pthread",
)
"""no contraction: an FMA is where it is written, and nowhere else"""
WARNINGS = ("-Wall", "-Wextra", "-Wvla")
SANITIZE = (
    "-g",
    "-O1",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
INSTRUCTIONS: dict[str, tuple[tuple[str, int, tuple[str, ...]], ...]] = {
    "x86_64": (
        ("scalar", 1, ()),
        ("avx2", 8, ("-mavx2", "-mfma")),
        (
            "avx512",
            16,
            ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"),
        ),
    ),
    "aarch64": (("scalar", 4, ()),),
}
"""machine -> name, floats of a vector and flags of each object; other machines get the first alone"""


class BuildError(RuntimeError):
    """The library cannot be built here."""


def digest(sources: Path = SOURCES) -> str:
    """What the library depends on, as 16 hexadecimal digits."""
    text = hashlib.sha256(repr((FLAGS, INSTRUCTIONS)).encode())
    for file in sorted(sources.glob("*.[ch]")):
        text.update(file.name.encode() + b"\0" + file.read_bytes())
    return text.hexdigest()[:16]


def machine() -> str:
    """The kind of this machine's processor, as :data:`INSTRUCTIONS` calls it."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def build(target: Path = HERE / LIBRARY, *, sources: Path = SOURCES, sanitize: bool = False) -> Path:
    """Compile and link the library for this machine, by ``$CC`` or ``cc``.

    Args:
        target: the file to write; appears whole or not at all.
        sources: folder of the C sources.
        sanitize: with AddressSanitizer and UndefinedBehaviorSanitizer, for tests.

    Raises:
        BuildError: there is no compiler, no source, or it failed; the message says what.
    """
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise BuildError(f"no C compiler ({compiler[0]!r} was not found): install gcc or clang, or set CC")
    if not (sources / "thick.h").is_file():
        raise BuildError(f"{sources} holds no sources of the kernels")
    kinds = INSTRUCTIONS.get(machine(), INSTRUCTIONS["x86_64"][:1])
    flags = [*FLAGS, *WARNINGS, *(SANITIZE if sanitize else ())]
    target.parent.mkdir(parents=True, exist_ok=True)
    # Next to the target, so that the library is renamed and not copied; a build that is killed leaves it there.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        objects = []
        for name, lanes, more in kinds:
            objects.append(f"{folder}/{name}.o")
            names = [f"-DLANES={lanes}", f"-DNAME=thick_{name}", *more]
            _compile([*compiler, *flags, *names, "-c", str(sources / "kernel.c"), "-o", objects[-1]])
        stamp = f'-DTHICK_SOURCES="{digest(sources)}"'
        for name in ONCE:
            objects.append(f"{folder}/{name}.o")
            _compile([*compiler, *flags, stamp, "-c", str(sources / f"{name}.c"), "-o", objects[-1]])
        made = f"{folder}/{LIBRARY}"
        _compile([*compiler, *flags, "-shared", *objects, "-lm", "-o", made])
        os.replace(made, target)
    return target


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{shlex.join(command)} failed:\n{done.stderr.strip()}")
    if done.stderr:
        print(done.stderr, file=sys.stderr)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m thick.runtimes.native.build", description=__doc__)
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UBSan")
    parser.add_argument("--output", type=Path, default=HERE / LIBRARY, help="the file to write")
    arguments = parser.parse_args()
    try:
        print(build(arguments.output, sanitize=arguments.sanitize))
    except BuildError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
