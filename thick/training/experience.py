"""What a run learns from: a data set that was given, a prefill, and the steps of the agent itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thick.data.collect import POLICIES, Collector, Policy, summarize
from thick.data.latents import Latents
from thick.data.mixture import Mixture
from thick.data.replay import ReplayRing
from thick.models.beliefs import State
from thick.progress import Screen
from thick.training.checkpoint import KEPT, CheckpointError
from thick.training.config import TrainConfig
from thick.training.folder import OWN_DATA
from thick.training.interrupts import StopRequest


class Experience:
    """The data of one run.

    Args:
        config: the run.
        directory: where steps are kept that must outlive the process.
        collector: the environments.

    Raises:
        FileNotFoundError, ValueError: the given data set is missing, damaged, or of another task.
    """

    def __init__(self, config: TrainConfig, directory: Path, collector: Collector) -> None:
        self._config, self._directory, self._collector = config, directory, collector
        self._online = config.data.policy == "agent"
        self._due = 0.0
        self._checksum: int | None = None
        self.own: ReplayRing | None = None
        """steps of this run; None where it learns from a given data set alone"""
        self.given = None if config.data.dataset is None else self._open(Path(config.data.dataset))
        """the data set that was given, opened to be read"""
        self._given_checksum = None if self.given is None else self.given.checksum(observations=False)
        self.latents: Latents | None = None
        """where the model stood at their steps, where sequences start from that"""

    def __len__(self) -> int:
        return len(self._rings())

    @property
    def foreign(self) -> str | None:
        """What to report of a given data set that names other tasks than the run's: shapes that are alike need not
        mean the same (another view of the same rooms)."""
        said = None if self.given is None else self.given.metadata.get("env")
        tasks = [said] if isinstance(said, str) else said
        if not isinstance(tasks, list) or all(task == self._config.env for task in tasks):
            return None
        others = ", ".join(str(task) for task in tasks if task != self._config.env)
        return (
            f"the data set {self._config.data.dataset} holds steps of {others}, this run is of {self._config.env}: "
            "they have the same shapes, and should mean the same"
        )

    @property
    def env_steps(self) -> int:
        """Steps that this run has made in its environments."""
        return 0 if self.own is None else self.own.written * self.own.streams

    def sample(self, rng: np.random.Generator, *, batch: int | None = None) -> dict[str, np.ndarray]:
        """A batch ``[B, T, ...]``."""
        config = self._config
        window = self._rings().sample(
            config.batch if batch is None else batch, config.length, rng, from_start=config.from_start
        )
        if self.latents is not None:
            self.latents.begin(window)
        return window

    def keep(self, window: dict[str, np.ndarray], states: State) -> None:
        """Remember, where the run is to, the states ``[B, T, ...]`` that a batch of :meth:`sample` was filtered to."""
        if self.latents is not None:
            memory = torch.cat([states.context, states.deter], -1)
            self.latents.keep(window, states.stoch.argmax(-1).cpu().numpy(), memory.float().cpu().numpy())

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint must hold of it besides :meth:`state`."""
        arrays = {} if self.latents is None else self.latents.arrays()
        return {f"latents.{name}": torch.from_numpy(array) for name, array in arrays.items()}

    # -- beginning -----------------------------------------------------------------------------------------------

    def begin(self, stop: StopRequest, screen: Screen) -> dict[str, Any] | None:
        """Collect what there must be before the first update.

        Returns:
            A summary of the prefill; None where a data set was given.

        Raises:
            Interrupted: somebody asked to stop.
            NotFiniteError: an environment answered with NaN or infinity.
        """
        if self._online or self.given is None:
            self.own = self._new_ring()
        self._remember()
        if self.given is not None:
            return None
        assert self.own is not None
        data, collector = self._config.data, self._collector
        options = data.policy_options if data.prefill_policy == "scripted" else {}
        policy = POLICIES[data.prefill_policy](self._config.seed, **options)
        steps = max(data.prefill // data.streams, self._config.length)
        with screen.task("prefill", steps * data.streams) as progress:
            for step in range(steps):
                stop.check()
                self.own.add(collector.step(policy))
                progress((step + 1) * data.streams)
        summary = summarize(collector.finished, steps=len(self.own))
        collector.finished.clear()
        collector.restart()
        if self.own.directory is None:
            self._checksum = self.own.checksum()
        return summary

    def resume(
        self, state: dict[str, Any], stop: StopRequest, screen: Screen, tensors: Mapping[str, torch.Tensor]
    ) -> list[str]:
        """Find everything as it was at a checkpoint.

        Args:
            state: of :meth:`state`.
            stop, screen: as in :meth:`begin`.
            tensors: of :meth:`tensors`.

        Returns:
            A sentence for everything that could not be found as it was.

        Raises:
            Interrupted, NotFiniteError: as :meth:`begin`.
            CheckpointError: the run's own steps are missing or damaged.
        """
        changes = []
        if self.given is not None:
            if len(self.given) != state["given"]:
                changes.append(
                    f"{self.given.directory} has changed: {len(self.given)} steps, {state['given']} at the checkpoint"
                )
            elif self._given_checksum != state.get("given_checksum", self._given_checksum):
                changes.append(f"{self.given.directory} has changed: other steps than at the checkpoint")
        if self._on_disk and state["own"] is not None:
            try:
                self.own = ReplayRing.open(self._directory, write=True)
                self.own.rewind(state["own"])
            except (FileNotFoundError, ValueError) as error:
                raise CheckpointError(
                    f"the steps of this run cannot be read ({error}): bring its folder data/ back, or start a new run "
                    "from its weights (--init)"
                ) from error
            self._remember()
        else:
            self.begin(stop, screen)
            if self._checksum != state["checksum"]:
                changes.append(
                    "the steps of the prefill, collected again, are not those that the run began with: the environment "
                    "does not repeat itself, or another version of it is installed (--data.on_disk keeps the steps)"
                )
        if self.latents is not None:
            self.latents.load({name.removeprefix("latents."): x.numpy() for name, x in tensors.items()})
        with screen.task("playing running episodes again", state["collector"]["steps"]) as progress:
            changes += self._collector.restore(state["collector"], progress)
        self._due = state["due"]
        return changes

    def state(self) -> dict[str, Any]:
        """What :meth:`resume` needs, as JSON; steps on disk are brought there."""
        if self.own is not None:
            self.own.flush()
        return {
            "given": None if self.given is None else len(self.given),
            "given_checksum": self._given_checksum,
            "own": None if self.own is None else self.own.written,
            "checksum": self._checksum,
            "collector": self._collector.state(),
            "due": self._due,
        }

    # -- going on ------------------------------------------------------------------------------------------------

    def collect(self, policy: Policy) -> dict[str, Any] | None:
        """The agent's share of steps for one update.

        Returns:
            A summary of the episodes that ended since the last one, when there is one for every environment.
        """
        assert self.own is not None
        data, finished = self._config.data, self._collector.finished
        self._due += data.env_steps_per_update / data.streams
        while self._due >= 1:
            self.own.add(self._collector.step(policy))
            self._due -= 1
        if len(finished) < data.streams:
            return None
        summary = summarize(finished, steps=sum(episode["length"] for episode in finished))
        finished.clear()
        return summary | {"env_steps": self.env_steps}

    # -- latents ---------------------------------------------------------------------------------------------

    def _remember(self) -> None:
        """Make room for states, where sequences are to start from them."""
        if self._config.start_state == "stored":
            model = self._config.model
            context = 0 if model.dynamics == "rssm" else model.context
            self.latents = Latents(
                self._rings().rings, stoch=model.stoch, classes=model.classes, memory=context + model.deter
            )

    # -- rings ---------------------------------------------------------------------------------------------------

    @property
    def _on_disk(self) -> bool:
        return self._online or self._config.data.on_disk

    def _rings(self) -> Mixture:
        return Mixture([ring for ring in (self.given, self.own) if ring is not None])

    def _open(self, path: Path) -> ReplayRing:
        if path.resolve() == self._directory.resolve():
            raise ValueError(
                f"data.dataset: {path} is where this run keeps its own steps: name another folder for the run"
            )
        ring = ReplayRing.open(path)
        if ring.fields != self._collector.ring_fields():
            raise ValueError(
                f"{path} was collected in {ring.metadata.get('env')!r}, whose steps do not fit those of "
                f"{self._config.env!r}: collect again with --env {self._config.env}"
            )
        if ring.available < self._config.length:
            raise ValueError(
                f"{path} holds {ring.available} steps in each of its {ring.streams} streams, fewer than a sequence of "
                f"{self._config.length} (length): collect more, or in fewer streams"
            )
        return ring

    def _new_ring(self) -> ReplayRing:
        config, data = self._config, self._config.data
        capacity = (data.capacity if self._online else data.prefill) // data.streams
        # A run that is killed goes on from one of its last checkpoints: what was there then must be there still.
        per_update = data.env_steps_per_update / data.streams if self._online else 0.0
        slack = KEPT * (math.ceil(config.checkpoint_every * per_update) + 1) if self._online else 0
        return ReplayRing(
            self._collector.ring_fields(),
            streams=data.streams,
            capacity=max(capacity, config.length),
            slack=slack,
            directory=self._directory if self._on_disk else None,
            metadata=OWN_DATA
            | {"env": config.env, "policy": data.policy, "prefill": data.prefill_policy, "seed": config.seed},
        )
