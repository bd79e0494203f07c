"""What tests of mixing share."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

import gpuaug as ga

DRAWS = 200
FLOAT = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5, 0.4, 0.3), (0.5, 0.25, 0.2))]


def pictures(n: int, seed: int = 0, floats: bool = False, size: tuple[int, int] = (20, 22)) -> Tensor:
    noise = torch.rand((n, 3, size[0] // 2, size[1] // 2), generator=torch.Generator().manual_seed(seed))
    smooth = v2.functional.resize(noise, list(size), antialias=True)
    return smooth if floats else (smooth * 255).round().to(torch.uint8)


def lowered(*ops: ga.Transform):
    return lambda: ga.Compose(list(ops), backend="cpu")(pictures(2))
