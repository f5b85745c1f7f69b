"""The torch runtime behind the protocol of runtimes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thick.agent import Agent
from thick.runtimes.adapter import AgentRuntime
from thick.runtimes.protocol import BackendError, Rows, RuntimeInfo, State
from thick.runtimes.torch.agents import load_agent
from thick.runtimes.torch.model import FrozenModel
from thick.runtimes.torch.packing import Packing


class TorchRuntime(AgentRuntime):
    """An agent of torch as a runtime; states and their rows stay on its device."""

    def __init__(self, agent: Agent[FrozenModel]) -> None:
        self.device = torch.device(agent.device)
        self._begun: torch.cuda.Event | None = None
        """the end of the last call on a GPU"""
        on_cpu = self.device.type == "cpu"
        fast = agent.model.search.dtype == torch.bfloat16
        super().__init__(
            agent,
            RuntimeInfo(
                backend="torch",
                device=str(self.device),
                precision="bf16" if fast else "fp32",
                instructions=torch.backends.cpu.get_cpu_capability()
                if on_cpu
                else torch.cuda.get_device_name(self.device),
                side_by_side=on_cpu,
            ),
        )
        self._packing = Packing(self.layout, self._example)

    def use_threads(self, count: int) -> None:
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)

    def pack(self, state: State) -> np.ndarray:
        return self._numpy(self.packed(state))

    def unpack(self, rows: np.ndarray) -> State:
        return self.unpacked(self._array(np.ascontiguousarray(rows)))

    def packed(self, state: State) -> Tensor:
        """``[B, row_bytes]`` uint8 on the device."""
        with self._computing():
            return self._packing.pack(state)

    def unpacked(self, rows: Tensor) -> State:
        """The opposite."""
        with self._computing():
            return self._packing.unpack(rows)

    def rows(self, capacity: int) -> Rows:
        return DeviceRows(self, capacity)

    # -- the library of the agent's arrays ---------------------------------------------------------------------------

    def _array(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self.device)

    def _numpy(self, array: Any) -> np.ndarray:
        found: np.ndarray = array.detach().cpu().numpy()
        return found

    def _dtype(self, array: Any) -> str:
        return str(array.dtype).removeprefix("torch.")

    def _computing(self) -> AbstractContextManager[Any]:
        return torch.inference_mode() if self.device.type == "cpu" else self._on_gpu()

    @contextlib.contextmanager
    def _on_gpu(self) -> Iterator[None]:
        """What was begun goes on while the next is prepared, but never more than one call ahead of the GPU."""
        with torch.inference_mode():
            yield
            begun = torch.cuda.Event()
            begun.record(torch.cuda.current_stream(self.device))
            before, self._begun = self._begun, begun
            if before is not None:
                before.synchronize()


class DeviceRows:
    """Rows of live sessions on the device of a torch runtime; see :class:`thick.runtimes.protocol.Rows`."""

    def __init__(self, runtime: TorchRuntime, capacity: int) -> None:
        self._runtime = runtime
        self._rows = torch.zeros(
            (capacity, runtime.layout.row_bytes), dtype=torch.uint8, device=runtime.device
        )

    @property
    def capacity(self) -> int:
        return self._rows.shape[0]

    def grow(self, capacity: int) -> None:
        more = self._rows.new_zeros(capacity - self.capacity, self._rows.shape[1])
        self._rows = torch.cat([self._rows, more])

    def keep(self, at: Sequence[int], state: State) -> np.ndarray:
        packed = self._runtime.packed(state)
        self._rows[self._index(at)] = packed
        return packed.cpu().numpy()

    def write(self, at: Sequence[int], rows: np.ndarray) -> None:
        self._rows[self._index(at)] = self._runtime._array(rows)

    def read(self, at: Sequence[int]) -> np.ndarray:
        return self._rows[self._index(at)].cpu().numpy()

    def states(self, at: Sequence[int]) -> State:
        return self._runtime.unpacked(self._rows[self._index(at)])

    def _index(self, at: Sequence[int]) -> Tensor:
        return torch.tensor(at, dtype=torch.long, device=self._rows.device)


def open_runtime(entry: Path, *, device: str = "cpu", precision: str = "auto") -> TorchRuntime:
    """The runtime of a model-repository entry ``NAME/VERSION``.

    Raises:
        thick.manifest.EntryError: the entry is missing, damaged or foreign.
        BackendError: the device cannot be used.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise BackendError(f"device {device}: torch {torch.__version__} finds no GPU here; take cpu")
    return TorchRuntime(load_agent(entry, device=device, precision=precision))
