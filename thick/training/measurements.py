"""What is measured while a run learns: reconstructions, gates against events, episodes by planning."""

from __future__ import annotations

from typing import Any

import numpy as np

from thick.models.dynamics.crssm import CRSSM
from thick.progress import Screen
from thick.training.alignment import EventPlay, gate_alignment, play_with_events
from thick.training.config import TrainConfig
from thick.training.evaluate import evaluate_learner
from thick.training.experience import Experience
from thick.training.interrupts import StopRequest
from thick.training.learner import Learner
from thick.training.pictures import ROWS, reconstructions


class Measurements:
    """Measures a learner without changing it, its data or its random states.

    Args:
        config, learner, experience: the run.
        stop: asked often, so that a long measurement does not hold up a stop.
        screen: where progress is shown.
    """

    def __init__(
        self,
        config: TrainConfig,
        learner: Learner,
        experience: Experience,
        stop: StopRequest,
        screen: Screen,
    ) -> None:
        self._config, self._learner, self._experience = config, learner, experience
        self._stop, self._screen = stop, screen
        self._play: EventPlay | None = None

    def due(self, update: int, last: int) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """What is due after an update of a run that ends at ``last``.

        Returns:
            Pictures ``[height, width, 3]`` by name, and results by kind.

        Raises:
            Interrupted: somebody asked to stop.
        """
        evaluation, model = self._config.evaluation, self._learner.model.world
        pictures: dict[str, np.ndarray] = {}
        results: dict[str, dict[str, Any]] = {}
        if evaluation.alignment_every > 0 and (update % evaluation.alignment_every == 0 or update == last):
            rng = np.random.default_rng([self._config.seed, update, 3])
            arrays = self._experience.sample(rng, batch=ROWS)
            pictures = reconstructions(model, arrays, self._learner.device)
            if isinstance(model.dynamics, CRSSM) and evaluation.alignment_steps:
                results["gates"] = gate_alignment(model, self._events())
        if evaluation.every and update % evaluation.every == 0:
            with self._screen.task("evaluation", evaluation.episodes) as progress:
                results["evaluation"] = evaluate_learner(
                    self._learner,
                    self._config,
                    progress=lambda done, _: progress(done),
                    check=self._stop.check,
                )
        return pictures, results

    def _events(self) -> EventPlay:
        """Play that is not in the data, made once."""
        if self._play is None:
            data, steps = self._config.data, self._config.evaluation.alignment_steps
            scripted = "scripted" in (data.prefill_policy, data.policy)
            with self._screen.task("play for gates", steps) as progress:
                self._play = play_with_events(
                    self._config.env,
                    policy="scripted" if scripted else "random",
                    steps=steps,
                    seed=self._config.seed + 1,
                    options=self._config.env_options,
                    policy_options=data.policy_options if scripted else {},
                    progress=progress,
                    check=self._stop.check,
                )
        return self._play
