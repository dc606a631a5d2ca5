"""The fused graph: from uint8 pixels to class values and confidence, all arithmetic inside the network's file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from landcover.classes import UNKNOWN
from landcover_export.networks import NetworkConfig


class FusedSegmentation(nn.Module):
    """Normalisation → network → softmax → argmax, as one module.

    Input `image` uint8 `[N, H, W, 3]`, red-green-blue. Outputs `classes` uint8 `[N, H, W]`, class values, and
    `confidence` uint8 `[N, H, W]`, the top softmax probability × 255, rounded.
    """

    def __init__(self, network: nn.Module, config: NetworkConfig, *, half: bool = False) -> None:
        """With `half` the network runs at 16 bits; what is before and after it stays at 32."""
        super().__init__()
        self.network = network.half() if half else network
        self.half_precision = half
        self.head = ClassAndConfidence(config.channel_values)
        # ((x / 255) - mean) / std as one multiplication and one addition.
        mean, std = torch.tensor(config.mean), torch.tensor(config.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Classes and confidence of `image`; see the class for shapes."""
        pixels = self.normalised(image)
        logits = self.network(pixels.half()).float() if self.half_precision else self.network(pixels)
        return self.head(logits)  # type: ignore[no-any-return]

    def normalised(self, image: Tensor) -> Tensor:
        """uint8 `[N, H, W, 3]` → float32 `[N, 3, H, W]`, as the network was trained on."""
        pixels = image.permute(0, 3, 1, 2).to(torch.float32)
        return pixels * self.get_buffer("scale") + self.get_buffer("shift")


class ClassAndConfidence(nn.Module):
    """Logits float `[N, C, H, W]` → class values and confidence, both uint8 `[N, H, W]`.

    A channel whose value is 0 (OpenEarthMap's background) is left out before the softmax: 0 says that there is
    no data, which no network can know, and the remaining probabilities sum to one.
    """

    def __init__(self, channel_values: Sequence[int]) -> None:
        super().__init__()
        kept = [channel for channel, value in enumerate(channel_values) if value != UNKNOWN]
        self.keeps_all = len(kept) == len(channel_values)
        values = [channel_values[channel] for channel in kept]
        self.register_buffer("kept", torch.tensor(kept))
        self.register_buffer("values", torch.tensor(values, dtype=torch.uint8))

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The channel with the largest logit, and its probability."""
        if not self.keeps_all:
            logits = logits.index_select(1, self.get_buffer("kept"))
        # softmax(x)[argmax] is 1 / Σ exp(x - max x): no division per channel, and no gather.
        top = logits.amax(dim=1, keepdim=True)
        probability = 1 / torch.exp(logits - top).sum(dim=1)
        classes = self.get_buffer("values")[logits.argmax(dim=1)]
        return classes, torch.round(probability * 255).to(torch.uint8)
