"""Data sets for the workers of loaders; by themselves, so that a spawned worker imports little."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
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


class Pictures(torch.utils.data.Dataset):
    """Noise of many sizes, made by Python code, as arrays or as files' names.

    Args:
        files: those of some samples, by number. odd: what happens in place of others, by number.
    """

    def __init__(self, n: int, files: dict[int, Path] | None = None, odd: dict[int, str] | None = None):
        self.targets, self.files, self.odd = list(range(n)), files or {}, odd or {}

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int):
        if self.odd.get(i) == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.odd.get(i) == "fails":
            raise KeyError(f"no picture {i}")
        if i in self.files:
            return str(self.files[i]), i
        rng = np.random.default_rng(i)
        return rng.integers(0, 256, (*rng.integers(30, 90, 2), 3), dtype=np.uint8), i


class Closed:
    """What only the process that made it can unpickle."""

    def __init__(self) -> None:
        self.made_in = os.getpid()

    def __len__(self) -> int:
        return 4

    def __setstate__(self, state: dict) -> None:
        if state["made_in"] != os.getpid():
            raise ModuleNotFoundError("No module named 'elsewhere'")
