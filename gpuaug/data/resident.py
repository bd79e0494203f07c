"""All images of a source in a device's memory, whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..inputs import moved
from ..keys import CPU
from .batches import Batch, Maker
from .feed import Feed, Turn
from .hands import Hands

DECODED = 32  # images that a thread decodes at once


@dataclass(eq=False)
class Resident:
    """The images of a maker's source.

    Attributes:
        images: uint8 [N, 3, H, W], or a list of [3, H, W], None for a damaged one.
        good: bool [N], those that are there; None: all.
        bad: what is wrong with the others. bytes: of the files. pixels: that were decoded.
    """

    maker: Maker
    images: torch.Tensor | list[torch.Tensor | None]
    good: np.ndarray | None = None
    bad: tuple[str, ...] = ()
    bytes: int = 0
    pixels: int = 0

    @classmethod
    def of(cls, maker: Maker, hands: Sequence[Hands], workers: int) -> Resident:
        """Decode what is not in memory yet, by hands for each of the threads that are its workers."""
        source, device = maker.source, maker.device
        if source.images is not None:
            return cls(maker, source.images.to(device))
        rooms, n = maker.rooms, len(source)
        plain = Maker(source, None, "full", CPU, maker.cache, most=rooms.most, shared=rooms.shared)
        chunks = [np.arange(at, min(at + DECODED, n)) for at in range(0, n, DECODED)]

        def make(k: int, turn: Turn) -> Batch:
            return plain.make(chunks[k], 0, turn, hands[turn.thread])

        feed: Feed[Batch] = Feed(make, len(chunks), workers, workers + 2, rooms.most)
        kept, bad, total, pixels = [None] * n, [], 0, 0
        try:
            for batch in feed:
                bad += batch.bad
                total, pixels = total + batch.bytes, pixels + batch.pixels
                for i, image in zip(batch.positions.tolist(), batch.images(), strict=True):
                    kept[i] = moved(image.clone(memory_format=torch.contiguous_format), device, torch.uint8)
                if batch.room is not None:
                    plain.rooms.append(batch.room)
                feed.let_go()
        finally:
            feed.close()
        if maker.cache is not None:
            maker.cache.flush()
        good = np.array([image is not None for image in kept], bool)
        if good.all() and len({image.shape for image in kept}) == 1:
            return cls(maker, torch.stack(kept), None, (), total, pixels)
        return cls(maker, kept, good, tuple(bad), total, pixels)

    def batch(self, positions: np.ndarray, epoch: int) -> tuple | None:
        """(images, labels, ids) or (images, labels, targets, ids), of the samples at these positions; None where none
        of them is there."""
        positions = positions if self.good is None else positions[self.good[positions]]
        if not len(positions):
            return None
        maker, images = self.maker, self.images
        if isinstance(images, list):
            some = [images[i] for i in positions.tolist()]
            return maker.augmented([image.clone() for image in some] if maker.lends else some, positions, epoch)
        index = moved(torch.from_numpy(positions), maker.device, torch.int64)
        if maker.augment is None or maker.source.targets is not None:  # targets are those of the batch alone
            return maker.augmented(images[index], positions, epoch)
        return maker.augmented(images, positions, epoch, index)
