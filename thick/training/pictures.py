"""Pictures for the training log: what both levels make of what they saw."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from torch import Tensor

from thick.envs.pictures import picture
from thick.models.batch import batch_from_arrays
from thick.models.dynamics.crssm import CRSSM
from thick.models.world_model import WorldModel

ROWS, COLUMNS = 2, 8


@torch.no_grad()
def reconstructions(
    model: WorldModel, arrays: dict[str, np.ndarray], device: torch.device
) -> dict[str, np.ndarray]:
    """Sheets ``[height, width, 3]``: true observations above their reconstructions, one for each level.

    Args:
        model: the world model.
        arrays: a batch as the replay gives it.
        device: where the model is.
    """
    batch = batch_from_arrays({key: value[:ROWS] for key, value in arrays.items()}, device)
    training = model.training
    model.eval()
    posterior = model.dynamics.observe(
        model.encoder(batch.observation), batch.action, batch.is_first, sample=False
    ).posterior
    chosen = torch.linspace(0, batch.reward.shape[1] - 1, COLUMNS).long()
    decoded = {"fine": model.heads.decoder.observation(model.dynamics.features(posterior)[:, chosen])}
    if isinstance(model.dynamics, CRSSM) and model.coarse_heads is not None:
        feature = model.dynamics.coarse_features(posterior.stoch, posterior.context)
        decoded["coarse"] = model.coarse_heads.decoder.observation(feature[:, chosen])
    model.train(training)
    truth = {key: value[:, chosen] for key, value in batch.observation.items()}
    single = not isinstance(model.observation_space, gymnasium.spaces.Dict)
    true_observation = truth["observation"] if single else truth
    return {
        f"reconstruction/{name}": _sheet(model.observation_space, true_observation, value)
        for name, value in decoded.items()
    }


def _sheet(
    space: gymnasium.Space, truth: Tensor | dict[str, Tensor], decoded: Tensor | dict[str, Tensor]
) -> np.ndarray:
    lines = []
    for row in range(ROWS):
        for source in (truth, decoded):
            frames = [picture(_at(source, row, column), space) for column in range(COLUMNS)]
            lines.append(np.concatenate(frames, 1))
    return np.concatenate(lines, 0)


def _at(observation: Tensor | dict[str, Tensor], row: int, column: int) -> np.ndarray | dict[str, np.ndarray]:
    if isinstance(observation, dict):
        return {key: value[row, column].cpu().numpy() for key, value in observation.items()}
    return observation[row, column].cpu().numpy()
