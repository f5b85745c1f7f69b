"""The training loop: collect, learn, look, save; and go on exactly where it was interrupted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from thick.data.collect import POLICIES, Collector, Policy, summarize
from thick.data.replay import ReplayRing
from thick.files import write_atomically
from thick.models.batch import batch_from_arrays
from thick.models.dynamics.crssm import CRSSM
from thick.training.alignment import EventPlay, gate_alignment, play_with_events
from thick.training.checkpoint import load_checkpoint, restore_rng, rng_state, save_checkpoint
from thick.training.config import TrainConfig, load_config, to_dict
from thick.training.learner import Learner
from thick.training.logs import RunLog
from thick.training.pictures import reconstructions
from thick.training.runs import load_weights


class Trainer:
    """One run in one folder.

    Args:
        config: the run.
        directory: where it lives: ``config.yaml``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/``, ``data/``.
        resume: go on from the latest checkpoint.

    Raises:
        FileExistsError: the folder holds a run already and ``resume`` is not asked for.
    """

    def __init__(self, config: TrainConfig, directory: Path, *, resume: bool = False) -> None:
        if (directory / "config.yaml").exists() and not resume:
            raise FileExistsError(f"{directory} holds a run already: use --resume, or another folder")
        directory.mkdir(parents=True, exist_ok=True)
        self.config, self.directory = config, directory
        if config.device == "cpu":
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        write_atomically(directory / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False).encode())
        self.collector = Collector(
            config.env, streams=config.data.streams, seed=config.seed, options=config.env_options
        )
        self.learner = Learner(config, self.collector.observation_space, self.collector.action_space)
        self._rng = np.random.default_rng(config.seed)
        self._seconds = 0.0
        self._collected = 0.0
        self._events: EventPlay | None = None
        if resume:
            self._restore()
            self.log = RunLog(directory, total=config.updates, done=self.learner.updates)
        else:
            self.log = RunLog(directory, total=config.updates)
            self.ring = self._first_data()
            if config.init is not None:
                self._start_from(Path(config.init))
        self._policy = self._agent_policy() if config.data.policy == "agent" else None

    def run(self, *, until: int | None = None) -> None:
        """Train up to ``until`` (default: the configured) updates; a checkpoint is written at the end."""
        config, learner = self.config, self.learner
        began = time.monotonic() - self._seconds
        last = min(config.updates, until or config.stop or config.updates)
        saved = learner.updates
        while learner.updates < last:
            if self._policy is not None:
                self._collect()
            arrays = self.ring.sample(config.batch, config.length, self._rng, from_start=config.from_start)
            self.log.add(learner.update(batch_from_arrays(arrays, learner.device)))
            update = learner.updates
            self._seconds = time.monotonic() - began
            if update % config.log_every == 0 or update == last:
                self.log.write(update, {"hours": self._seconds / 3600, "env_steps": len(self.ring)})
            if self._due(config.evaluation.alignment_every, update, last):
                self._look(update, arrays)
            if config.evaluation.every and update % config.evaluation.every == 0:
                self.log.event(update, "evaluation", self._evaluate())
            if update % config.checkpoint_every == 0:
                self.save()
                saved = update
        if saved != learner.updates:
            self.save()

    def save(self) -> None:
        """Write a checkpoint; running episodes are left, so that a resumed run sees the same environments."""
        self.collector.restart()
        self.ring.flush()
        state = {
            "update": self.learner.updates,
            "rng": rng_state(self._rng),
            "episodes": self.collector.episodes.tolist(),
            "written": self.ring.written,
            "seconds": self._seconds,
            "collected": self._collected,
            "torch_rng": torch.get_rng_state().tolist(),
        }
        save_checkpoint(self.directory / "checkpoints", self.learner.tensors(), state)

    # -- data ------------------------------------------------------------------------------------------------

    def _first_data(self) -> ReplayRing:
        data, collector = self.config.data, self.collector
        if data.dataset is not None:
            ring = ReplayRing.open(Path(data.dataset))
            if ring.fields != collector.ring_fields():
                raise ValueError(
                    f"{data.dataset} was collected in {ring.metadata.get('env')!r}, whose steps do not fit those of "
                    f"{self.config.env!r}: collect again with --env {self.config.env}"
                )
            return ring
        online = data.policy == "agent"
        capacity = (data.capacity if online else data.prefill) // data.streams
        ring = ReplayRing(
            collector.ring_fields(),
            streams=data.streams,
            capacity=max(capacity, self.config.length),
            directory=self.directory / "data" if data.on_disk or online else None,
            metadata={"env": self.config.env, "policy": data.prefill_policy, "seed": self.config.seed},
        )
        options = data.policy_options if data.prefill_policy == "scripted" else {}
        policy = POLICIES[data.prefill_policy](self.config.seed, **options)
        for _ in range(max(data.prefill // data.streams, self.config.length)):
            ring.add(collector.step(policy))
        self._summarize_data(ring, "data")
        collector.restart()
        return ring

    def _collect(self) -> None:
        """The agent's share of steps for one update."""
        data = self.config.data
        self._collected += data.env_steps_per_update / data.streams
        while self._collected >= 1:
            assert self._policy is not None
            self.ring.add(self.collector.step(self._policy))
            self._collected -= 1
        if len(self.collector.finished) >= 2 * data.streams:
            self._summarize_data(self.ring, "collected")

    def _summarize_data(self, ring: ReplayRing, kind: str) -> None:
        summary = summarize(self.collector.finished, steps=len(ring))
        self.collector.finished.clear()
        self.log.event(self.learner.updates, kind, summary)

    def _agent_policy(self) -> Policy:
        from thick.training.acting import AgentPolicy

        return AgentPolicy(self.learner, self.config)

    # -- looking ---------------------------------------------------------------------------------------------

    def _due(self, every: int, update: int, last: int) -> bool:
        return every > 0 and (update % every == 0 or update == last)

    def _look(self, update: int, arrays: dict[str, np.ndarray]) -> None:
        """Reconstructions of both levels, and gates against the environment's events."""
        model = self.learner.model
        for name, picture in reconstructions(model, arrays, self.learner.device).items():
            self.log.image(update, name, picture)
        if isinstance(model.dynamics, CRSSM) and self.config.evaluation.alignment_steps:
            self.log.event(update, "gates", self.alignment())

    def alignment(self) -> dict[str, Any]:
        """Context changes against the environment's events, on play that is not in the data."""
        if self._events is None:
            data = self.config.data
            scripted = "scripted" in (data.prefill_policy, data.policy)
            self._events = play_with_events(
                self.config.env,
                policy="scripted" if scripted else "random",
                steps=self.config.evaluation.alignment_steps,
                seed=self.config.seed + 1,
                options=self.config.env_options,
                policy_options=data.policy_options if scripted else {},
            )
        return gate_alignment(self.learner.model, self._events)

    def _evaluate(self) -> dict[str, Any]:
        from thick.training.evaluate import evaluate_learner

        return evaluate_learner(self.learner, self.config)

    # -- starting and resuming -----------------------------------------------------------------------------

    def _start_from(self, source: Path) -> None:
        """Begin with another model's weights; optimisers and schedules start anew."""
        weights, origin = load_weights(source)
        if not self.config.init_high:
            own = self.learner.model.state_dict()
            weights = {name: (own if name.startswith("high.") else weights)[name] for name in own}
        try:
            self.learner.model.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{source} holds a model of other sizes than this run's: {error}") from error
        if self.learner.behaviour is not None:
            self.learner.behaviour.update_target()
        self.log.event(0, "init", origin)

    def _restore(self) -> None:
        tensors, state = load_checkpoint(self.directory / "checkpoints")
        if (self.directory / "data" / "replay.json").is_file():
            self.ring = ReplayRing.open(self.directory / "data")
            self.ring.written = state["written"]
        else:
            self.log = RunLog(self.directory, total=self.config.updates, done=state["update"])
            self.ring = self._first_data()
            self.log.close()
        self.learner.load(tensors, state)
        restore_rng(self._rng, state["rng"])
        self.collector.episodes = np.asarray(state["episodes"], np.int64)
        self.collector.restart()
        self._seconds, self._collected = state["seconds"], state["collected"]
        torch.set_rng_state(torch.tensor(state["torch_rng"], dtype=torch.uint8))


def resume(directory: Path) -> Trainer:
    """The trainer of a run that was interrupted."""
    path = directory / "config.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{directory} holds no run (config.yaml is missing)")
    return Trainer(load_config(path), directory, resume=True)
