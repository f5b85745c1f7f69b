"""Images of any size between their own form and the one that convolutions read: 64×64, [-0.5, 0.5]."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 64
"""pixels a side of what the convolutions read and the deconvolutions write"""


@dataclass(frozen=True)
class ImageForm:
    """How an environment's images look.

    An image of another size than 64×64 is averaged over areas on its way in and interpolated on its way out: the
    model's size, and what a step costs, do not depend on the camera.
    """

    height: int = SIDE
    width: int = SIDE
    channels: int = 3
    dtype: str = "uint8"
    low: float = 0.0
    """value of black"""
    high: float = 255.0
    """value of white"""

    @classmethod
    def of(cls, space: gymnasium.spaces.Box) -> ImageForm:
        """The form of a space of kind "image"."""
        height, width, channels = space.shape
        low, high = float(space.low.flat[0]), float(space.high.flat[0])
        return cls(height, width, channels, np.dtype(space.dtype).name, low, high)

    def prepare(self, image: Tensor) -> Tensor:
        """``[..., H, W, C]`` -> ``[..., 64, 64, C]`` in [-0.5, 0.5]."""
        image = image.float()
        if (self.low, self.high) == (0.0, 255.0):
            image = image / 255.0 - 0.5
        else:
            image = (image - self.low) / (self.high - self.low) - 0.5
        return self._resized(image, SIDE, SIDE, mode="area")

    def restore(self, mean: Tensor) -> Tensor:
        """``[..., 64, 64, C]`` in [-0.5, 0.5] -> the nearest image of the space, ``[..., H, W, C]``."""
        image = self._resized(mean.float(), self.height, self.width, mode="bilinear")
        if self.dtype == "uint8":
            return ((image + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)
        image = ((image + 0.5) * (self.high - self.low) + self.low).clamp(self.low, self.high)
        return image.to(getattr(torch, self.dtype))

    def _resized(self, image: Tensor, height: int, width: int, *, mode: str) -> Tensor:
        if (self.height, self.width) == (SIDE, SIDE):
            return image
        planes = image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2)
        planes = F.interpolate(planes, (height, width), mode=mode)
        return planes.permute(0, 2, 3, 1).reshape(*image.shape[:-3], height, width, image.shape[-1])
