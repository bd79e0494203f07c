"""A data set that augments in the workers of a DataLoader; by itself, so that a spawned worker imports little."""

from __future__ import annotations

import torch
from torch import Tensor

import gpuaug as ga


class Augmented(torch.utils.data.Dataset):
    """Augments pairs of images in the worker, the cpu backend on two threads; torch's own hang there after a fork."""

    def __init__(self, augment: ga.Compose, images: Tensor, keyed: bool = True):
        self.augment, self.images, self.keyed = augment, images, keyed

    def __len__(self) -> int:
        return len(self.images) // 2

    def __getitem__(self, i: int) -> Tensor:
        ids = [2 * i, 2 * i + 1]
        images, threads = self.images[ids], torch.get_num_threads()
        torch.set_num_threads(2 if self.augment.backend == "cpu" else threads)
        try:
            return self.augment(images, ids=ids, epoch=4) if self.keyed else self.augment(images)
        finally:
            torch.set_num_threads(threads)
