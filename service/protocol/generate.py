"""Makes ``generated/`` from ``planner.proto``: ``python -m service.protocol.generate [--check] [FOLDER]``.

Needs grpcio-tools (in the ``dev`` extra). ``--check`` writes nothing and fails if the code in the repository
is not what the present ``planner.proto`` makes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
GENERATED = HERE / "generated"
PACKAGE = "service.protocol.generated"
FILES = ("planner_pb2.py", "planner_pb2.pyi", "planner_pb2_grpc.py")


def generate(folder: Path) -> list[Path]:
    """Writes the message classes, their type stubs and the service's stubs into ``folder``."""
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        # Under its package's path, which is its name in the process-wide pool and in the reflection service.
        source = Path(scratch) / "thick" / "v1" / "planner.proto"
        source.parent.mkdir(parents=True)
        shutil.copyfile(HERE / "planner.proto", source)
        arguments = [
            "protoc", f"-I{scratch}", f"-I{well_known}", f"--python_out={scratch}", f"--pyi_out={scratch}",
            f"--grpc_python_out={scratch}", str(source),
        ]  # fmt: skip
        if protoc.main(arguments) != 0:
            raise RuntimeError("protoc failed; its message is above")
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            text = (source.parent / name).read_text()
            (folder / name).write_text(text.replace("from thick.v1 import", f"from {PACKAGE} import"))
    return [folder / name for name in FILES]


def stale() -> list[str]:
    """Names of the files under ``generated/`` that are not what ``planner.proto`` makes now."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = generate(Path(scratch))
        return [
            path.name
            for path in fresh
            if not (GENERATED / path.name).exists()
            or path.read_bytes() != (GENERATED / path.name).read_bytes()
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m service.protocol.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the code is not current")
    parser.add_argument("folder", nargs="?", type=Path, default=GENERATED, help="where to write")
    options = parser.parse_args(arguments)
    if options.check:
        names = stale()
        if names:
            print(f"not current: {', '.join(names)}; run `make proto`", file=sys.stderr)
        return 1 if names else 0
    for path in generate(options.folder):
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
