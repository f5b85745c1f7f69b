"""The training loop: collect, learn, measure, save; and go on exactly where it was interrupted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thick.configuration import to_dict
from thick.data.collect import Collector
from thick.data.finite import NotFiniteError
from thick.envs.errors import UnusableEnvironmentError
from thick.models.batch import batch_from_arrays
from thick.training.acting import AgentPolicy
from thick.training.checkpoint import (
    CheckpointError,
    has_checkpoint,
    last_usable_checkpoint,
    latest_checkpoint,
    not_finite_tensors,
    restore_rng,
    rng_state,
    save_checkpoint,
)
from thick.training.checks import check_prefill, check_room, check_task
from thick.training.config import TrainConfig, check_stop, load_config, without_late_stop
from thick.training.experience import Experience
from thick.training.extension import extended
from thick.training.finite import check_update
from thick.training.folder import CONFIG, RunFolder
from thick.training.interrupts import Interrupted, StopRequest, on_signals
from thick.training.learner import Learner
from thick.training.logs import RunLog
from thick.training.measurements import Measurements
from thick.training.precision import try_precisions
from thick.training.runs import load_weights
from thick.training.threads import try_threads

FORMAT = 2
"""of the state in a checkpoint"""


class RunStoppedError(RuntimeError):
    """A run that cannot go on; the message says why, and which checkpoint is its last."""


class Trainer:
    """One run in one folder.

    Everything that can be known beforehand is checked before anything is written.

    Args:
        config: the run.
        directory: where it lives; see :class:`~thick.training.folder.RunFolder`.
        resume: go on from the latest checkpoint.
        stop: who may ask the run to stop; signals do as well while it runs.

    Raises:
        FileExistsError: the folder holds a run with a checkpoint already and ``resume`` is not asked for.
        FileNotFoundError: there is no checkpoint to resume from, or no data set where ``data.dataset`` says.
        thick.files.FolderInUseError: another process writes into the folder.
        ValueError: configuration, task and data do not fit each other, or a checkpoint cannot be used.
        thick.envs.MissingPackageError: the task's simulator is not installed.
    """

    def __init__(
        self, config: TrainConfig, directory: Path, *, resume: bool = False, stop: StopRequest | None = None
    ) -> None:
        self.config, self.directory = config, directory
        self.stop = stop or StopRequest()
        self.folder = RunFolder(directory)
        _check(config)
        try:
            self._build(resume)
        except BaseException:
            self.folder.release()
            raise

    def _build(self, resume: bool) -> None:
        config = self.config
        if resume:
            self.folder.lock()
        else:
            self.folder.check_free()
        check_task(config)
        if config.device == "cpu":
            torch.set_num_threads(config.threads or 1)
        torch.manual_seed(config.seed)
        self.collector = Collector(
            config.env, streams=config.data.streams, seed=config.seed, options=config.env_options
        )
        if config.data.dataset is None:
            check_prefill(config, self.collector.envs[0])
        check_room(config, self.collector.ring_fields(), self.directory)
        self.experience = Experience(config, self.folder.data, self.collector)
        self.learner = Learner(config, self.collector.observation_space, self.collector.action_space)
        # A planner that does not fit is an error now, and not only when the model is served.
        self.learner.agent(config.planner)
        self._rng = np.random.default_rng(config.seed)
        self._seconds = 0.0
        self._reported = 0
        self._saved: int | None = None
        self._between_updates = True
        self._checkpoint: dict[str, Any] | None = None
        self._latents: dict[str, torch.Tensor] = {}
        self._differs: list[str] = []
        origin = None if resume or config.init is None else self._start_from(Path(config.init))
        self._policy = AgentPolicy(self.learner, config) if config.data.policy == "agent" else None
        notes = self._restore() if resume else self._claim()
        self.folder.write_config(to_dict(config))
        self.log = RunLog(
            self.directory,
            total=config.updates,
            done=self.learner.updates,
            state=None if self._checkpoint is None else self._checkpoint["log"],
        )
        acting = None if self._policy is None else self._policy.note
        for note in (*notes, self.experience.foreign, acting):
            if note is not None:
                self.log.say(note)
        if origin is not None:
            self.log.event(0, "init", origin)
        self._measurements = Measurements(config, self.learner, self.experience, self.stop, self.log.screen)
        self._ready = False

    def run(self, *, until: int | None = None) -> bool:
        """Train up to ``until`` (default: the configured) updates; a checkpoint is written at the end.

        The first SIGINT or SIGTERM finishes the update, saves and returns; a second one ends the run where it is.

        Returns:
            Whether it came to the end; False if somebody asked to stop.

        Raises:
            RunStoppedError: a number is not finite, an environment answers with what is not in its spaces, or a file
                cannot be written.
            KeyboardInterrupt: the second signal.
        """
        self.folder.lock()
        try:
            with on_signals(self.stop, "stopping after this update; once more stops at once"):
                self._prepare()
                return self._loop(until)
        except Interrupted:
            return False
        except (NotFiniteError, UnusableEnvironmentError, CheckpointError) as error:
            text = f"{error}. Stopped at update {self.learner.updates}; {self.last_checkpoint()}"
            self.log.event(self.learner.updates, "stopped", {"reason": str(error)})
            raise RunStoppedError(text) from error
        except OSError as error:
            raise RunStoppedError(
                f"{error}. Stopped at update {self.learner.updates}; {self.last_checkpoint()}; when the disk can be "
                "written again, the run goes on from there with --resume"
            ) from error
        finally:
            self.folder.release()

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            RuntimeError: an update was left half done; the last checkpoint is the one to go on from.
            CheckpointError: a number is not finite; nothing was written.
        """
        if not self._between_updates:
            raise RuntimeError(f"an update was left half done, so it is not saved; {self.last_checkpoint()}")
        state = {
            "format": FORMAT,
            "update": self.learner.updates,
            "reported": self._reported,
            "precision": self.learner.precision,
            "threads": torch.get_num_threads(),
            "rng": rng_state(self._rng),
            "torch_rng": torch.get_rng_state().tolist(),
            "cuda_rng": torch.cuda.get_rng_state(self.learner.device).tolist() if self._on_gpu else None,
            "experience": self.experience.state(),
            "acting": None if self._policy is None else self._policy.state(),
            "log": self.log.state(),
            "seconds": self._seconds,
            "env_steps": self.experience.env_steps,
        }
        tensors = self.learner.tensors()
        if self._policy is not None:
            tensors |= {f"acting.{name}": value for name, value in self._policy.tensors().items()}
        tensors |= self.experience.tensors()
        save_checkpoint(self.folder.checkpoints, tensors, state)
        self._saved = self.learner.updates

    def close(self) -> None:
        """Close environments and files, and give the folder back."""
        self.collector.close()
        self.log.close()
        self.folder.release()

    def last_checkpoint(self) -> str:
        """Where the last checkpoint is, in words."""
        if (path := latest_checkpoint(self.folder.checkpoints)) is None:
            return "no checkpoint was written yet, and the folder can be started anew"
        return f"the last finite checkpoint is {path}"

    # -- the loop ------------------------------------------------------------------------------------------------

    def _loop(self, until: int | None) -> bool:
        config, learner = self.config, self.learner
        began = time.monotonic() - self._seconds
        last = min(config.updates, until or config.stop or config.updates)
        while True:
            update = learner.updates
            self._seconds = time.monotonic() - began
            self._report(last)
            ended = update >= last or self.stop.requested
            if self._saved != update and (ended or update % config.checkpoint_every == 0) and update > 0:
                self.save()
            if ended:
                return update >= last
            self._advance()

    def _advance(self) -> None:
        """One update and the steps of the agent that belong to it. Left half done, it cannot be saved."""
        self._between_updates = False
        if self._policy is not None:
            collected = self.experience.collect(self._policy)
            if collected is not None:
                self.log.event(self.learner.updates, "collected", collected)
        arrays = self.experience.sample(self._rng)
        values = self.learner.update(batch_from_arrays(arrays, self.learner.device))
        check_update(self.learner.updates, values, arrays)
        assert self.learner.filtered is not None
        self.experience.keep(arrays, self.learner.filtered)
        self.log.add(values)
        self._between_updates = True

    def _report(self, last: int) -> None:
        """Log what is due after an update, once; nothing if somebody asks to stop meanwhile."""
        update, log = self.learner.updates, self.log
        if self._reported >= update:
            return
        try:
            pictures, events = self._measurements.due(update, last)
        except Interrupted:
            return  # measured again when the run goes on
        if update % self.config.log_every == 0 or update == last:
            log.write(update, {"hours": self._seconds / 3600, "env_steps": self.experience.env_steps})
        for name, picture in pictures.items():
            log.image(update, name, picture)
        for kind, content in events.items():
            log.event(update, kind, content)
        self._reported = update

    # -- beginning -----------------------------------------------------------------------------------------------

    def _claim(self) -> list[str]:
        if not self.folder.claim():
            return []
        return [f"{self.directory} held a run that stopped before its first checkpoint: it is started anew"]

    def _start_from(self, source: Path) -> dict[str, Any]:
        """Begin with another model's weights; optimisers and schedules start anew."""
        weights, origin = load_weights(source)
        bad = not_finite_tensors(weights)
        if bad:
            raise ValueError(f"init: {source}: {bad[0]} is not finite")
        try:
            self.learner.begin_with(weights, levels=self.config.init_levels)
        except ValueError as error:
            raise ValueError(f"init: {source}: {error}") from error
        return origin

    def _restore(self) -> list[str]:
        """Everything but the data, which :meth:`_prepare` finds."""
        found = last_usable_checkpoint(self.folder.checkpoints)
        state = self._checkpoint = found.state
        if state.get("format") != FORMAT:
            raise CheckpointError(
                f"{found.path} was written by another release and cannot be gone on from; a new run can start from its "
                f"weights: --init {self.directory}"
            )
        self.learner.load(found.tensors, state)
        self.learner.precision = state["precision"]
        if not self.config.threads and not self._on_gpu:
            torch.set_num_threads(state["threads"])  # with others, last bits may differ
        if self._policy is not None:
            acting = {
                name.removeprefix("acting."): value
                for name, value in found.tensors.items()
                if name.startswith("acting.")
            }
            self._differs = self._policy.restore(acting, state["acting"], self.config.data.streams)
        self._latents = {k: v for k, v in found.tensors.items() if k.startswith("latents.")}
        self._seconds, self._reported = state["seconds"], state["reported"]
        self._saved = self.learner.updates
        return [f"{text}: going on from {found.path}" for text in found.passed_over]

    def _prepare(self) -> None:
        """Data, precision and random states, so that the next update can come."""
        if self._ready:
            return
        state = self._checkpoint
        if state is None:
            collected = self.experience.begin(self.stop, self.log.screen)
            if collected is not None:
                self.log.event(0, "data", collected)
            self._choose_how_to_compute()
        else:
            changed = self.experience.resume(state["experience"], self.stop, self.log.screen, self._latents)
            for note in (*self._differs, *changed):
                self.log.event(self.learner.updates, "resumed", {"note": note})
            restore_rng(self._rng, state["rng"])
            torch.set_rng_state(torch.tensor(state["torch_rng"], dtype=torch.uint8))
            if self._on_gpu and state["cuda_rng"] is not None:
                torch.cuda.set_rng_state(
                    torch.tensor(state["cuda_rng"], dtype=torch.uint8), self.learner.device
                )
        self._ready = True

    def _choose_how_to_compute(self) -> None:
        """Threads and precision, where a trial decides."""
        asked, threads = self.config.precision, not self.config.threads and not self._on_gpu
        if asked == "fp32" and not threads:
            return
        arrays = self.experience.sample(np.random.default_rng([self.config.seed, 5]))
        batch = batch_from_arrays(arrays, self.learner.device)
        if threads:
            count, rates_of = try_threads(self.learner, batch)
            torch.set_num_threads(count)
            self.log.event(0, "threads", {"taken": count, "rates": rates_of})
        if asked == "fp32":
            return
        self.log.say("trying updates in fp32 and bf16")
        trial = try_precisions(self.learner, batch, rates_wanted=asked == "bf16")
        if asked == "auto":
            self.learner.precision = trial.precision
        elif trial.slower():
            rates = ", ".join(f"{rate:.3g} updates/s in {name}" for name, rate in trial.rates.items())
            self.log.say(f"warning: precision bf16 is slower than fp32 on this machine: {rates}")
        self.log.event(
            0, "precision", {"asked": asked, "taken": self.learner.precision, "rates": trial.rates}
        )

    @property
    def _on_gpu(self) -> bool:
        return self.learner.device.type == "cuda"


def _check(config: TrainConfig) -> None:
    """ValueError for what no task or data could make right."""
    check_stop(config)
    if config.length < 2 and config.model.levels:
        raise ValueError(
            "length: expected at least 2, got 1: a high level learns from segments, which have two steps or more"
        )
    try:
        device: torch.device | None = torch.device(config.device)
    except RuntimeError:
        device = None
    if (
        device is None
        or device.type not in ("cpu", "cuda")
        or (device.type == "cpu" and config.device != "cpu")
    ):
        raise ValueError(f"device: expected cpu, cuda or cuda:N, got {config.device!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device: torch finds {torch.cuda.device_count()} CUDA devices here, so there is no {config.device!r}; "
            "expected cpu"
        )


def resume(
    directory: Path, changes: Mapping[str, Any] | None = None, *, stop: StopRequest | None = None
) -> Trainer:
    """The trainer of a run that was interrupted; one that stopped before its first checkpoint begins anew.

    Args:
        directory: the run's folder.
        changes: ``updates`` or ``stop``, to extend the run.
        stop: as :class:`Trainer` has it.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: the changes do not fit, or no checkpoint can be used.
    """
    path = directory / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{directory} holds no run ({CONFIG} is missing): start one without --resume")
    config = without_late_stop(load_config(path))
    notes: list[str] = []
    started = has_checkpoint(directory / "checkpoints")
    if changes:
        done = last_usable_checkpoint(directory / "checkpoints").state["update"] if started else 0
        config, notes = extended(config, changes, done)
    trainer = Trainer(config, directory, resume=started, stop=stop)
    for note in notes:
        trainer.log.say(note)
    return trainer
