"""The ONNX runtime behind the protocol of runtimes: numpy and ONNX Runtime, no torch and no compiler."""

from __future__ import annotations

import platform
from pathlib import Path

from thick.agent import Agent
from thick.runtimes.adapter import AgentRuntime
from thick.runtimes.onnx import sessions
from thick.runtimes.onnx.agents import GraphError, load_agent
from thick.runtimes.onnx.model import OnnxModel
from thick.runtimes.protocol import BackendError, RuntimeInfo


class OnnxRuntime(AgentRuntime):
    """An agent of numpy arrays and ONNX graphs as a runtime."""

    def __init__(self, agent: Agent[OnnxModel]) -> None:
        super().__init__(
            agent,
            RuntimeInfo(
                backend="onnx",
                device="cpu",
                precision="fp32",
                instructions=instructions(),
                side_by_side=True,
                exact=True,
            ),
        )

    def use_threads(self, count: int) -> None:
        sessions.use_threads(count)


def instructions() -> str:
    """What ONNX Runtime's products use on this processor."""
    if platform.machine() in ("aarch64", "arm64"):
        return "NEON"
    try:
        flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].splitlines()[0].split())
    except (OSError, IndexError):
        flags = set()
    return next((name.upper() for name in ("avx512f", "avx2", "avx") if name in flags), platform.machine())


def open_runtime(entry: Path, *, device: str = "cpu", precision: str = "auto") -> OnnxRuntime:
    """The runtime of a model-repository entry ``NAME/VERSION``.

    Raises:
        thick.manifest.EntryError: the entry is missing, damaged or foreign.
        BackendError: it has no graphs, or they cannot run here, or not as asked.
    """
    if device != "cpu":
        raise BackendError(f"backend onnx runs on cpu, not on {device}")
    if precision not in ("auto", "fp32"):
        raise BackendError(f"backend onnx computes in fp32, not in {precision}: take fp32 or auto")
    try:
        return OnnxRuntime(load_agent(entry))
    except GraphError as error:
        raise BackendError(f"backend onnx: {error}") from error
