"""A data set that augments in the workers of a DataLoader; by itself, so that a spawned worker imports little."""

from __future__ import annotations

import torch
from torch import Tensor

import gpuaug as ga


class Augmented(torch.utils.data.Dataset):
    """Augments pairs of images in the worker; the cpu backend on two threads, torch's own hang there after a fork."""

    def __init__(self, augment: ga.Compose, images: Tensor, keyed: bool = True):
        self.augment, self.images, self.keyed = augment, images, keyed

    def __len__(self) -> int:
        return len(self.images) // 2

    def __getitem__(self, i: int) -> Tensor:
        if self.augment.backend == "cpu":
            torch.set_num_threads(2)
        ids = [2 * i, 2 * i + 1]
        return self.augment(self.images[ids], ids=ids, epoch=4) if self.keyed else self.augment(self.images[ids])
