"""The native runtime behind the protocol of runtimes: numpy and the kernels, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thick.agent import Agent
from thick.planning.settings import PlannerSettings
from thick.runtimes.adapter import AgentRuntime
from thick.runtimes.native import library
from thick.runtimes.native.agents import load_agent
from thick.runtimes.native.model import NativeModel
from thick.runtimes.native.reflexes import Reflexes, fits
from thick.runtimes.protocol import BackendError, Observation, Reaction, RuntimeInfo


class NativeRuntime(AgentRuntime):
    """An agent of numpy arrays and native kernels as a runtime."""

    def __init__(self, agent: Agent[NativeModel]) -> None:
        super().__init__(
            agent,
            RuntimeInfo(
                backend="native",
                device="cpu",
                precision="fp32",
                instructions=library.instructions().upper(),
                side_by_side=True,
                exact=True,
                any_thread=True,
            ),
        )

        self._reflexes = None
        if agent.model.exact.has_actor:
            self._reflexes = Reflexes(agent, self.layout, self.pack(self._example)[0].copy())

    def use_threads(self, count: int) -> None:
        library.use_threads(count)

    def react(
        self,
        row: np.ndarray,
        observation: Observation,
        *,
        is_first: bool,
        executed_action: Any,
        settings: PlannerSettings,
    ) -> Reaction | None:
        """See :class:`thick.runtimes.protocol.Reflexes`."""
        if self._reflexes is None or not fits(settings):
            return None
        executed = None if executed_action is None else self.agent.encode_action([executed_action])
        return self._reflexes.act(row, observation, is_first=is_first, executed=executed)


def open_runtime(entry: Path, *, device: str = "cpu", precision: str = "auto") -> NativeRuntime:
    """The runtime of a model-repository entry ``NAME/VERSION``.

    Raises:
        thick.manifest.EntryError: the entry is missing, damaged or foreign.
        BackendError: the kernels cannot run here, or not this model, or not as asked.
    """
    if device != "cpu":
        raise BackendError(f"backend native runs on cpu, not on {device}")
    if precision not in ("auto", "fp32"):
        raise BackendError(f"backend native computes in fp32, not in {precision}: take fp32 or auto")
    try:
        return NativeRuntime(load_agent(entry))
    except library.NativeUnavailable as error:
        raise BackendError(f"backend native: {error}") from error
