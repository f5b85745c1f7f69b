"""What an environment changes of the process that it runs in: the working folder, how numpy takes overflows, and of
torch the default type and device, the number of threads and whether gradients are kept.

An environment has all that for itself. Around each of its calls the process is as the environment left it, and
afterwards as it was: relative paths of ours stay where they were meant, and a model learns in its own type. Whoever
changes nothing pays some microseconds a call.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from thick.envs.errors import UnusableEnvironmentError, reason

_ALONE = threading.RLock()
"""held by environments that change the process, which others beside them would get in the way of"""
_THREAD = threading.local()
_CHANGING = set[str]()
"""environments that were seen to change the process"""


class _Process(NamedTuple):
    """How the process is."""

    folder: str | None
    """None where it is not there any more"""
    overflows: tuple[object, ...]
    """numpy's ways with faults of floating point"""
    torch: tuple[Any, ...] | None
    """default type, gradients, default device (None: none was set) and threads; None before torch is imported"""


class Surroundings:
    """Those of one environment; use it around each call (``with``).

    Args:
        name: of the environment.
        own: what it begins with; None is the process as it is.

    Raises:
        UnusableEnvironmentError: at the end of the call, where the folder that it left cannot be gone back to.
    """

    def __init__(self, name: str = "", own: _Process | None = None) -> None:
        self._name, self._own = name, own
        """None where the environment changed nothing"""
        self._nested: list[tuple[_Process, bool] | None] = []

    def of(self, name: str) -> Surroundings:
        """Of an environment that begins where this one is."""
        return Surroundings(name, self._own)

    def __enter__(self) -> None:
        if getattr(_THREAD, "within", False):  # an environment in an environment shares its surroundings
            self._nested.append(None)
            return
        alone = self._own is not None or self._name in _CHANGING
        if alone:
            _ALONE.acquire()
        ours = _Home.enter()
        _THREAD.within = True
        self._nested.append((ours, alone))
        if self._own is not None:
            with contextlib.suppress(OSError):  # its folder is gone: it sees so itself
                _change(ours, self._own)

    def __exit__(self, *_: object) -> None:
        entered = self._nested.pop()
        if entered is None:
            return
        ours, alone = entered
        try:
            left = _now()
            self._own = None
            if left != ours:
                self._own = left
                _CHANGING.add(self._name)
                _change(left, ours._replace(torch=_fresh(ours, left)))
        except OSError as error:
            raise UnusableEnvironmentError(
                f"the environment left the working folder, and {ours.folder} cannot be gone back to: {reason(error)}"
            ) from error
        finally:
            _THREAD.within = False
            _Home.leave()
            if alone:
                _ALONE.release()


def at_home() -> AbstractContextManager[object]:
    """Around what must find the process as it is: no environment that changes it is in a call meanwhile."""
    return _ALONE if _CHANGING else contextlib.nullcontext()


class _Home:
    """How the process was before the first of the environments that are being called at this moment, in any thread."""

    _lock = threading.Lock()
    _calls = 0
    _folder: str | None = None
    _torch: tuple[Any, ...] | None = None

    @classmethod
    def enter(cls) -> _Process:
        """How it is to be again after a call that begins now. (Numpy's ways are each thread's own.)"""
        now = _now()
        with cls._lock:
            if not cls._calls:
                cls._folder, cls._torch = now.folder, now.torch
            cls._calls += 1
            return _Process(cls._folder, now.overflows, cls._torch)

    @classmethod
    def leave(cls) -> None:
        with cls._lock:
            cls._calls -= 1


@contextlib.contextmanager
def theirs(around: Surroundings, env_id: str, doing: str) -> Iterator[None]:
    """Around a call of an environment made by others.

    One that ends the program, or cannot reach a file or server of its own, fails by an error of its own, which nobody
    takes for a disk of ours that is full. Other exceptions pass with their traceback.
    """
    try:
        with around:
            yield
    except (OSError, SystemExit) as error:
        raise UnusableEnvironmentError(f"{env_id}: {doing} failed: {reason(error)}") from error


def _now() -> _Process:
    try:
        folder = os.getcwd()
    except OSError:
        folder = None
    torch = sys.modules.get("torch")
    return _Process(folder, tuple(np.geterr().values()), None if torch is None else _torch_now(torch))


def _torch_now(torch: Any) -> tuple[Any, ...] | None:
    try:
        # torch.get_default_device() takes longer than a step of many environments.
        device = getattr(sys.modules.get("torch.utils._device"), "CURRENT_DEVICE", None)
        return torch.get_default_dtype(), torch.is_grad_enabled(), device, torch.get_num_threads()
    except AttributeError:  # it is being imported
        return None


def _fresh(ours: _Process, left: _Process) -> tuple[Any, ...] | None:
    """What is right for torch after a call: what it had before, or what it begins with where the call imported it."""
    if ours.torch is not None or left.torch is None:
        return ours.torch
    return sys.modules["torch"].float32, True, None, left.torch[-1]


def _change(now: _Process, then: _Process) -> None:
    """Make the process so."""
    if then.overflows != now.overflows:
        np.seterr(**dict(zip(np.geterr(), then.overflows, strict=True)))  # type: ignore[arg-type]
    if then.torch is not None and now.torch is not None and then.torch != now.torch:
        torch: Any = sys.modules["torch"]  # never imported from here: most environments do without
        kind, gradients, device, threads = then.torch
        torch.set_default_dtype(kind)
        torch.set_grad_enabled(gradients)
        if device != now.torch[2]:
            torch.set_default_device(device)
        if threads != now.torch[3]:
            torch.set_num_threads(threads)
    if then.folder is not None and then.folder != now.folder:
        os.chdir(then.folder)
