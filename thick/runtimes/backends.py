"""The table of backends: which runtimes there are, and which one opens a model."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from thick.distribution import install_command
from thick.manifest import EntryError
from thick.runtimes.protocol import BackendError

if TYPE_CHECKING:
    from thick.runtimes.protocol import Runtime

_log = logging.getLogger(__name__)

AUTO = "auto"


class Backend(NamedTuple):
    """How to come by a runtime."""

    name: str
    module: str
    """has ``open_runtime(entry, *, device, precision) -> Runtime``, which raises ``BackendError`` where this backend
    cannot run the model or cannot run here"""
    requires: tuple[str, ...]
    """packages that it imports"""
    devices: tuple[str, ...]
    """kinds of device that it can use"""
    install: str
    """what brings it, as the end of a sentence"""


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            "native", "thick.runtimes.native.runtime", (), ("cpu",), "reinstall where there is a C compiler"
        ),
        Backend("onnx", "thick.runtimes.onnx.runtime", ("onnxruntime",), ("cpu",), install_command("serve")),
        Backend(
            "torch",
            "thick.runtimes.torch.runtime",
            ("torch",),
            ("cpu", "cuda"),
            install_command("service"),
        ),
    )
}
"""by name; ``auto`` tries them in this order"""


def open_runtime(
    entry: Path, *, backend: str = AUTO, device: str = "cpu", precision: str = "auto"
) -> Runtime:
    """The runtime of a model-repository entry ``NAME/VERSION``.

    Args:
        backend: a name of the table, or ``auto`` for the first that can run the model on the device.
        device: cpu, cuda or cuda:N.
        precision: of planning: auto, fp32 or bf16.

    Raises:
        thick.manifest.EntryError: the entry is missing, damaged or foreign.
        BackendError: the backend is not there or cannot run the model; for ``auto``, why none can.
    """
    if backend != AUTO:
        return _open(named(backend), entry, device, precision)
    reasons = []
    for each in BACKENDS.values():
        try:
            runtime = _open(each, entry, device, precision)
        except BackendError as error:
            reasons.append(str(error))
            continue
        if reasons:
            _log.warning("%s runs on %s: %s", entry, each.name, "; ".join(reasons))
        return runtime
    raise BackendError("no backend can run the model: " + "; ".join(reasons))


def named(backend: str) -> Backend:
    """The entry of the table.

    Raises:
        BackendError: there is no such backend.
    """
    if backend not in BACKENDS:
        raise BackendError(f"backend {backend!r}: expected one of {', '.join((AUTO, *BACKENDS))}")
    return BACKENDS[backend]


def check_backend(backend: str, device: str) -> None:
    """Whether a backend is there for a device, without opening a model.

    Raises:
        BackendError: it is not, in one line that says what to do.
    """
    chosen = list(BACKENDS.values()) if backend == AUTO else [named(backend)]
    reasons = [reason for each in chosen if (reason := _missing(each, device)) is not None]
    if len(reasons) == len(chosen):
        raise BackendError("; ".join(reasons))


def available(device: str = "cpu") -> Sequence[str]:
    """Names of the backends that are installed for a device."""
    return [backend.name for backend in BACKENDS.values() if _missing(backend, device) is None]


def _missing(backend: Backend, device: str) -> str | None:
    """Why a backend cannot be used here; None if it can."""
    if device.partition(":")[0] not in backend.devices:
        return f"backend {backend.name} runs on {', '.join(backend.devices)}, not on {device}"
    for package in (*backend.requires, backend.module):
        if not _is_installed(package):
            return f"backend {backend.name} is not installed ({package} is missing): {backend.install}"
    return None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def _open(backend: Backend, entry: Path, device: str, precision: str) -> Runtime:
    if (reason := _missing(backend, device)) is not None:
        raise BackendError(reason)
    try:
        module = importlib.import_module(backend.module)
    except ImportError as error:
        raise BackendError(f"backend {backend.name} cannot be loaded: {error}") from error
    try:
        return cast("Runtime", module.open_runtime(entry, device=device, precision=precision))
    except EntryError:
        raise
    except ValueError as error:  # a size, a layer or a default that this backend has no way with
        raise BackendError(f"backend {backend.name}: {error}") from error
