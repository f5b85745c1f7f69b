"""One version of one model: what its manifest says, and once it is loaded, what runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from service.engine.slots import SlotTable
from thick.manifest import EntryError, Manifest, read_manifest
from thick.planning.settings import PlannerSettings
from thick.planning.table import METHODS
from thick.runtimes.protocol import Runtime
from thick.spaces import Space, as_space

State = Literal["ready", "loading", "failed", "unloaded"]


class Hosted:
    """One version of one model: its manifest, and once loaded its runtime and the slots of its sessions.

    Args:
        name, version: what it is served as: the names of its folders. The manifest may have others, so that a model can
            be served under a second name (``canary``) by a copy or a link of its folder.
        path: the entry.
    """

    def __init__(self, name: str, version: str, path: Path) -> None:
        self.name = name
        self.version = version
        self.path = path
        self.state: State = "unloaded"
        self.reason: str | None = None
        self.manifest: Manifest | None = None
        self.observation_space: Space | None = None
        self.action_space: Space | None = None
        self.planner = PlannerSettings()
        self._runtime: Runtime | None = None
        self._slots: SlotTable | None = None
        self.initial_slot = -1
        """where the state of a session lies that has seen nothing"""
        self.sessions = 0
        """live sessions of this version"""
        try:
            self._read()
        except EntryError as error:
            self.state, self.reason = "failed", str(error)

    def _read(self) -> None:
        manifest = read_manifest(self.path)
        try:
            self.planner = PlannerSettings().updated(manifest.planner)
            self.observation_space = as_space(manifest.observation_space, path="observation_space")
            self.action_space = as_space(manifest.action_space, path="action_space")
        except ValueError as error:
            raise EntryError(f"{self.path}: {error}; export the model again") from error
        self.manifest = manifest

    @property
    def loaded(self) -> bool:
        """Whether sessions can act, also those of a version that takes no new ones."""
        return self._runtime is not None

    @property
    def runtime(self) -> Runtime:
        """What runs it; only while it is loaded."""
        assert self._runtime is not None, f"model {self.name!r} version {self.version!r} is not loaded"
        return self._runtime

    @property
    def slots(self) -> SlotTable:
        """The states of its sessions; only while it is loaded."""
        assert self._slots is not None, f"model {self.name!r} version {self.version!r} is not loaded"
        return self._slots

    def bring(self, runtime: Runtime) -> None:
        """Give it its slots and what runs it; on the engine's worker."""
        slots = SlotTable(runtime)
        (self.initial_slot,), _ = slots.keep(runtime.initial(1), 1)
        self._slots, self._runtime = slots, runtime

    def free(self) -> None:
        """Let go of what runs it."""
        self._runtime = self._slots = None

    @property
    def weights(self) -> str:
        """SHA-256 of the weights, which a belief names so that it meets the same ones again."""
        return self.manifest.weights.sha256 if self.manifest else ""

    def summary(self) -> dict[str, Any]:
        """The entry in ``GET /v1/models``."""
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.manifest.kind if self.manifest else "",
            "task": self.manifest.task if self.manifest else None,
            "state": self.state,
            "reason": self.reason,
            "backend": self._runtime.info.backend if self._runtime else None,
        }

    def detail(self, all_versions: list[str], *, threads: int | None = None) -> dict[str, Any]:
        """The answer to ``GET /v1/models/{name}``.

        Args:
            all_versions: of the model.
            threads: of a CPU that plan with it now.
        """
        manifest = self.manifest
        return {
            **self.summary(),
            "observation_space": manifest.observation_space if manifest else None,
            "action_space": manifest.action_space if manifest else None,
            "planner": self.planner.to_json() if manifest else None,
            "methods": [method for method in METHODS if self._runtime and self._runtime.has(method)],
            "provenance": manifest.provenance if manifest else None,
            "env_options": manifest.configuration.get("env_options", {}) if manifest else None,
            "exported_as": f"{manifest.name}/{manifest.version}" if manifest else None,
            "versions": all_versions,
            "runtime": self._shown_runtime(threads),
            "sessions": self.sessions,
        }

    def _shown_runtime(self, threads: int | None) -> dict[str, Any] | None:
        if self._runtime is None:
            return None
        info = self._runtime.info
        return {
            "backend": info.backend,
            "device": info.device,
            "precision": info.precision,
            "instructions": info.instructions,
            "threads": threads,
        }
