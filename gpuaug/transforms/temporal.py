"""Ops on the frames of clips [B, T, C, H, W]: frames are chosen, and read where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..lowering import Lowering
from ..messages import shown
from .arguments import ends, plain, probability, whole
from .base import Transform


@dataclass(frozen=True)
class UniformTemporalSubsample(Transform):
    """Take frames at equal distances, the first and the last among them
    (torchvision.transforms.v2.UniformTemporalSubsample).

    Args:
        num_samples: how many; of fewer frames some are taken more than once.
    """

    num_samples: int

    def __post_init__(self) -> None:
        self._plain()
        whole("UniformTemporalSubsample", "num_samples", self.num_samples, 1)

    def lower(self, build: Lowering) -> None:
        def frames(values: torch.Tensor | None, t: int) -> torch.Tensor:
            device = "cpu" if values is None else values.device
            return torch.linspace(0, t - 1, int(self.num_samples), dtype=torch.float32, device=device).long()[None]

        build.temporal(frames)


@dataclass(frozen=True)
class RandomTemporalCrop(Transform):
    """Take frames at equal distances from a random place on, the same for all frames of a clip.

    Args:
        num_frames: how many.
        stride: the distance from one to the next, or (low, high) to draw it from, both included. Where a clip is too
            short for it, the longest that fits.

    Raises:
        ValueError: at the call, for clips of fewer than num_frames frames.
    """

    num_frames: int
    stride: int | Sequence[int] = 1

    def __post_init__(self) -> None:
        name = "RandomTemporalCrop"
        self._plain()
        whole(name, "num_frames", self.num_frames, 1)
        strides = ends(plain(self.stride))
        if len(strides) != 2 or whole(name, "stride", strides[0], 1) > whole(name, "stride", strides[1], 1):
            raise ValueError(f"{name}: stride must be one whole number or (low, high), got {shown(self.stride)}")

    def lower(self, build: Lowering) -> None:
        n, (low, high) = int(self.num_frames), ends(self.stride)
        name = build.name

        def frames(values: torch.Tensor, t: int) -> torch.Tensor:
            if t < n:
                raise ValueError(f"{name}: takes {n} frames, and the clips have {t}; lower num_frames")
            place, stride = values.unbind(1)
            stride = stride.floor().clamp(max=max((t - 1) // max(n - 1, 1), 1))
            room = t - 1.0 - (n - 1) * stride
            start = torch.minimum((place * (room + 1.0)).floor(), room)
            steps = torch.arange(n, device=values.device)
            return start.long()[:, None] + stride.long()[:, None] * steps

        bounds = (0.0, 1.0, float(low), float(high + 1))
        build.temporal(frames, draw="draw_uniform", configuration=bounds, columns=("start", "stride"))


@dataclass(frozen=True)
class RandomTemporalFlip(Transform):
    """Play a clip backwards, with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        self._plain()
        probability("RandomTemporalFlip", self.p)

    def lower(self, build: Lowering) -> None:
        def frames(values: torch.Tensor, t: int) -> torch.Tensor:
            forward = torch.arange(t, device=values.device)
            return torch.where(values > 0.0, t - 1 - forward, forward)

        build.temporal(frames, draw="draw_accept", configuration=(float(self.p),), columns=("applied",))
