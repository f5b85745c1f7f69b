"""The library of kernels, loaded with ctypes (which lets go of the interpreter's lock while it computes).

The records are those of ``native/thick.h``, field by field. ``THICK_INSTRUCTIONS`` chooses the instruction set: auto
(the best there is), avx512, avx2 or scalar. Whichever it is, the bits are the same.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_char, c_double, c_float, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from thick.runtimes.native import build

INSTRUCTIONS = ("scalar", "avx2", "avx512")
COLUMNS = 16
LAYERS = 8
TILE = 192
SLICE = 64
"""columns of a slice of a table"""
ROWS = 12
"""rows of a block of a product; a multiple of it wastes nothing"""

CHAIN, STEP, SEARCH, GOAL, JUMP, EXPAND, CONVOLVE, UNFOLD, MAP = range(9)
EXP, TANH, SIGMOID, ELU = range(4)


class NativeUnavailable(RuntimeError):
    """The native runtime cannot run here; the message says why and what to do."""


def _record(name: str, fields: str) -> Any:
    """A C record: ``"name:kind …"`` with kinds i (int64), f (float), p (pointer), or a record's own name."""
    kinds = {"i": c_int64, "f": c_float, "p": c_void_p, **_RECORDS}
    pairs: Any = [(key, kinds[kind]) for key, kind in (item.split(":") for item in fields.split())]
    made = type(name, (ctypes.Structure,), {"_fields_": pairs})
    _RECORDS[name] = made
    return made


_RECORDS: dict[str, Any] = {}
Dense = _record("Dense", "weight:p bias:p inputs:i outputs:i")
_RECORDS["Layers"] = Dense * LAYERS
Chain = _record("Chain", "table:p offsets:p classes:i groups:i layers:i linear:i layer:Layers")
Low = _record(
    "Low",
    "stoch:i classes:i deter:i hidden:i context:i action:i threshold:f gamma:f img_in:Chain gatel0rd:Dense gru:Dense "
    "img_out:Dense img_logit:Dense obs_memory:Dense obs_embed:Dense obs_logit:Dense reward:Chain discount:Chain",
)
High = _record(
    "High",
    "low:p actions:i continuous:i max_time:f log_gamma:f body:Chain state:Chain act:Chain time:Chain segment:Chain "
    "summary:Chain coarse:Chain reward:Chain discount:Chain",
)
ChainRows = _record("ChainRows", "chain:p stoch:p x:p y:p")
StepRows = _record(
    "StepRows",
    "low:p stoch:p deter:p context:p action:p uniforms:p embedding:p next_stoch:p logits:p next_deter:p "
    "next_context:p gates:p",
)
Nodes = _record("Nodes", "stoch:p memory:p total:p alive:p credit:p won:p near:p arrived:p session:p")
SearchRows = _record(
    "SearchRows",
    "low:p nodes:Nodes steps:i sessions:i ends:p parent:p node:p chosen:p begun:p candidates:p keys:p draw:i weight:p "
    "bonus:f ending:f arrival:i goal:p goal_context:p distance:p least:p ends_there:p",
)
GoalRows = _record("GoalRows", "low:p goal:p logits:p class_major:p similarity:p")
JumpRows = _record(
    "JumpRows",
    "high:p each:i stoch:p actions:p context:p uniforms:p logits:p before:p next_stoch:p action:p next_context:p "
    "gates:p elapsed:p segment:p reward:p continuation:p",
)
ExpandRows = _record("ExpandRows", "jump:JumpRows prior:p arrival:p probability:p edge:p fade:p value:p")
ConvolveRows = _record("ConvolveRows", "dense:p kernel:i size:i channels:i x:p y:p")
UnfoldRows = _record("UnfoldRows", "kernel:i size:i channels:i lead:i elu:i x:p bias:p y:p")
Jumps = _record("Jumps", "stoch:p context:p reward:p elapsed:p prior:p edge:p fade:p value:p")
States = _record("States", "stoch:p context:p reward:p")
_RECORDS["Bytes"] = c_int64 * 8
Memo = _record("Memo", "sets:i hash:p next:p states:States nodes:Jumps")
Trees = _record(
    "Trees",
    "sessions:i room:i depth:i actions:i stoch:i context:i bytes:Bytes nodes:Jumps prior:p mean:p logits:p visits:p "
    "child:p total:p came:p lowest:p highest:p schedule:p noise:p score:p way:p length:p end:p origin:p ahead:i "
    "guesses:i guess:p lengths:p before:p expand:p critic:ChainRows lead:i tile:i asked:States hash:p fresh:Jumps",
)
MapRows = _record("MapRows", "function:i width:i x:p y:p")


@functools.lru_cache(maxsize=1)
def library() -> Any:
    """The library, checked.

    Raises:
        NativeUnavailable: it is not there, was built from other sources, or does not load.
    """
    path = Path(os.environ.get("THICK_NATIVE_LIBRARY") or build.HERE / build.LIBRARY)
    advice = "run python -m thick.runtimes.native.build"
    if not path.is_file():
        raise NativeUnavailable(
            f"{path} is not there: it was not built when the package was installed; {advice}"
        )
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"{path} does not load ({error}); {advice}") from error
    lib.thick_sources.restype = ctypes.c_char_p
    lib.thick_sizes.restype, lib.thick_sizes.argtypes = c_int64, [c_int64]
    pointer = c_void_p
    lib.thick_walk.restype, lib.thick_walk.argtypes = None, [c_int64, c_int64, c_int64, *[pointer] * 8]
    lib.thick_plant.argtypes = [pointer, pointer, c_int, c_int, pointer]
    lib.thick_simulate.argtypes = [pointer, pointer, c_int, c_int, c_int64, c_int64, c_double]
    lib.thick_simulate.restype = c_int64
    lib.thick_run.argtypes = [c_int, c_int, c_void_p, c_int64, c_int64, c_int64, c_int64, c_int, c_void_p]
    built = lib.thick_sources().decode()
    if (build.SOURCES / "thick.h").is_file() and built != build.digest():
        raise NativeUnavailable(
            f"{path} was built from other sources than those in {build.SOURCES}; {advice}"
        )
    sizes = [*map(ctypes.sizeof, (Dense, Chain, Low, High, Trees, Memo)), TILE, MAP + 1]
    if [lib.thick_sizes(index) for index in range(len(sizes))] != sizes:
        raise NativeUnavailable(f"{path} has other records than this release; {advice}")
    return lib


def available() -> list[str]:
    """Instruction sets that library and processor have, best last.

    Raises:
        NativeUnavailable: see :func:`library`.
    """
    return [name for index, name in enumerate(INSTRUCTIONS) if library().thick_has(index)]


@functools.lru_cache(maxsize=1)
def _chosen() -> int:
    wanted = os.environ.get("THICK_INSTRUCTIONS", "auto").strip().lower() or "auto"
    known = available()
    if wanted == "auto":
        return INSTRUCTIONS.index(known[-1])
    if wanted not in INSTRUCTIONS:
        raise ValueError(f"THICK_INSTRUCTIONS: expected auto, {', '.join(INSTRUCTIONS)}, got {wanted!r}")
    if wanted not in known:
        raise NativeUnavailable(
            f"THICK_INSTRUCTIONS: {wanted} was asked for; this machine has {', '.join(known)}"
        )
    return INSTRUCTIONS.index(wanted)


_override: list[int] = []
_here = threading.local()


def use_threads(count: int) -> None:
    """From now on, so many threads compute what the calling thread asks for. Changes no bit."""
    _here.threads = max(1, count)


def instructions() -> str:
    """The instruction set in use."""
    return INSTRUCTIONS[_override[-1] if _override else _chosen()]


def computed_by() -> tuple[int, int]:
    """The number of the instruction set in use, and of threads for the calling one."""
    return _override[-1] if _override else _chosen(), getattr(_here, "threads", 1)


@contextmanager
def using(name: str) -> Iterator[None]:
    """Another instruction set for a while; for tests and benchmarks."""
    if name not in available():
        raise NativeUnavailable(f"expected one of {', '.join(available())}, got {name!r}")
    _override.append(INSTRUCTIONS.index(name))
    try:
        yield
    finally:
        _override.pop()


def run(
    operation: int, job: Any, rows: int, lead: int, *, first: int = 0, tile: int = 0, ends: int = 0
) -> None:
    """Rows ``[first, first + rows)`` of an operation.

    Args:
        job: its record; who calls keeps the arrays in it alive.
        lead: floats of a row of every buffer.
        tile: rows at a time at most; 0 leaves it to the library. Changes no bit.
        ends: where the ends of stages are, each of which begins when the one before is complete; 0 for one stage.
    """
    which, threads = computed_by()
    if library().thick_run(which, operation, ctypes.byref(job), first, rows, lead, tile, threads, ends):
        raise MemoryError(f"no memory for the buffers of {rows} rows")


def map_all(function: int, x: np.ndarray) -> np.ndarray:
    """A function of every number: EXP, TANH, SIGMOID or ELU, as the kernels compute it."""
    x = np.ascontiguousarray(x, np.float32)
    y = np.empty_like(x)
    if x.size:
        run(MAP, MapRows(function, x.size, address(x), address(y)), 1, COLUMNS)
    return y


def address(array: np.ndarray) -> int:
    """Where the numbers of a contiguous array lie."""
    try:
        return ctypes.addressof(c_char.from_buffer(array))  # type: ignore[arg-type]  # quicker
    except (TypeError, ValueError):  # read-only, or empty
        return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


def padded(count: int) -> int:
    """Columns that so many outputs take."""
    return -(-count // COLUMNS) * COLUMNS
