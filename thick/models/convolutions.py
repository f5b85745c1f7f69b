"""Images to embeddings and back, by convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from thick.models.distributions import normal_log_prob
from thick.models.functions import elu
from thick.models.images import SIDE, ImageForm
from thick.models.layers import Dense


class ImageEncoder(nn.Module):
    """Four convolutions, kernel 4, stride 2, valid, ELU: 64×64×C -> ``[..., 32·depth]`` (DreamerV1)."""

    def __init__(self, depth: int, form: ImageForm | None = None) -> None:
        super().__init__()
        self.form = form or ImageForm()
        channels = [self.form.channels, *(depth * 2**power for power in range(4))]
        for index in range(4):
            self.add_module(f"conv{index}", nn.Conv2d(channels[index], channels[index + 1], 4, stride=2))
        self.size = 4 * channels[-1]
        self.apply(_glorot)

    def forward(self, image: Tensor) -> Tensor:
        """``[..., H, W, C]`` in the space's own range."""
        x = self.form.prepare(image).flatten(0, -4).permute(0, 3, 1, 2)
        for index in range(4):
            x = elu(self.get_submodule(f"conv{index}")(x))
        # Channels last before flattening: the embedding's order is height, width, channel.
        return x.permute(0, 2, 3, 1).reshape(*image.shape[:-3], self.size)


class ImageDecoder(nn.Module):
    """Dense to 32·depth, then deconvolutions with kernels 5, 5, 6, 6 and stride 2; N(mean, 1)."""

    def __init__(self, inputs: int, depth: int, form: ImageForm | None = None) -> None:
        super().__init__()
        self.form = form or ImageForm()
        self.add_module("in", Dense(inputs, 32 * depth))
        channels = [32 * depth, depth * 4, depth * 2, depth, self.form.channels]
        for index, kernel in enumerate((5, 5, 6, 6)):
            self.add_module(
                f"deconv{index}", nn.ConvTranspose2d(channels[index], channels[index + 1], kernel, stride=2)
            )
        self.apply(_glorot)

    def forward(self, feature: Tensor) -> Tensor:
        """Mean of the image, ``[..., 64, 64, C]`` in the preprocessed range [-0.5, 0.5]."""
        x = self.get_submodule("in")(feature).reshape(-1, self.get_submodule("in").out_features)
        for index in range(4):
            deconvolution = self.get_submodule(f"deconv{index}")
            x = deconvolution(x) if index else _from_one_pixel(deconvolution, x)
            x = elu(x) if index < 3 else x
        return x.permute(0, 2, 3, 1).reshape(*feature.shape[:-1], SIDE, SIDE, x.shape[1])

    def log_prob(self, output: Tensor, image: Tensor) -> Tensor:
        """``[...]``, summed over pixels."""
        return normal_log_prob(self.form.prepare(image), output).sum((-3, -2, -1))

    def observation(self, output: Tensor) -> Tensor:
        """The most likely observation, ``[..., H, W, C]`` in the space's own range."""
        return self.form.restore(output)


def _from_one_pixel(layer: nn.Module, x: Tensor) -> Tensor:
    """A deconvolution of ``[B, C]``, a single pixel, which is a matrix product: ``[B, O, k, k]``.

    Libraries take it for a convolution, and up to ten times as long.
    """
    assert isinstance(layer, nn.ConvTranspose2d) and layer.bias is not None
    outputs, *size = layer.weight.shape[1:]
    return (x @ layer.weight.flatten(1)).view(-1, outputs, *size) + layer.bias.view(-1, 1, 1)


def _glorot(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
