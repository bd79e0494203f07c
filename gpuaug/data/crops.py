"""Draw first, for several views of each image: by one pipeline, or by those of a MultiCrop, out of one decoded part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..compose import Compose
from ..kernels.shared import plan
from ..multicrop import MultiCrop
from ..order import within
from ..recipe import Asked
from ..transforms.mixing import Mixer
from ..tree import Canvas
from .reading import SHRINKS, Part, Reading, bounds, shrink_words, shrinks


class Views(Reading):
    """A pipeline's draws for views of these numbers; the other arguments as for `Reading`."""

    def __init__(self, augment: Compose, views: Sequence[int], sizes: Sequence[Canvas], *arguments, **keywords):
        super().__init__(augment, sizes, *arguments, asked=Asked(views=tuple(views)), **keywords)

    def _whole(self, images: list[torch.Tensor], labels: Any, targets: dict[str, Any]):
        return self.augment.views_of(images, self.asked, ids=self.ids.to(images[0].device), epoch=self.epoch)

    @property
    def _of(self) -> np.ndarray:
        """The image of each row."""
        return self.recipe.host_rows[:, plan.ROW_SOURCE].numpy()

    def shrinks_alone(self) -> np.ndarray:
        """By how much each image may be shrunk for these views, int64 [B]."""
        least = np.full(len(self.sizes), SHRINKS[0] if self.recipe.program.groups else 1)
        if self.recipe.program.groups:
            np.minimum.at(least, self._of, shrinks(self.host.words.numpy(), self.recipe.program))
        return least

    def parts_at(self, by: np.ndarray) -> np.ndarray:
        """What is read of images that are shrunk by so much, int64 [B], as `Part`s; to be asked for once."""
        self.shrinks, words, program = by, self.host.words, self.recipe.program
        if program.groups:
            shrink_words(words, program, torch.from_numpy(by[self._of]))
        return self._needed(bounds(words.numpy(), program, self._canvases(self._of)), self._of)


class Crops:
    """As `Reading`, for the pipelines of a MultiCrop: a draw for each, and of each image one part for all of them."""

    def __init__(
        self,
        augment: MultiCrop,
        sizes: Sequence[Canvas],
        ids: torch.Tensor,
        epoch: int,
        *,
        decode: str = "full",
        shrinkable: Sequence[bool] | None = None,
    ):
        self.augment, self.sizes, self.readings, first = augment, sizes, [], 0
        for pipeline, count in zip(augment.pipelines, augment.counts, strict=True):
            views = range(first, first + count)
            self.readings.append(Views(pipeline, views, sizes, ids, epoch, decode="whole"))
            first += count
        self.whole = next((one.whole for one in self.readings if one.whole is not None), None)
        if self.whole is not None or decode == "whole":
            return
        by = np.ones(len(sizes), np.int64)
        if decode == "scaled":
            by = np.min([one.shrinks_alone() for one in self.readings], axis=0)
            by = by if shrinkable is None else np.where(shrinkable, by, 1)
        self.parts = joined([one.parts_at(by) for one in self.readings])

    @property
    def parts(self) -> list[Part]:
        return self.readings[0].parts

    @parts.setter
    def parts(self, parts: Sequence[Part]) -> None:
        for one in self.readings:
            one.parts = parts

    def run(self, source: torch.Tensor, offsets: Sequence[int], *, labels=None, targets=None):
        """The views, in order, and the labels as they are, if there are any."""
        found = [view for one in self.readings for view in one.run(source, offsets)]
        return found if labels is None else (found, labels)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The least parts that hold others, int64 [B, 5] each, as `Part`s of the same images at the same scale."""
    parts = np.stack(parts)
    first, end = parts[..., :2].min(0), (parts[..., :2] + parts[..., 2:4]).max(0)
    return np.concatenate([first, end - first, parts[0, :, 4:]], 1)


def mixes(transforms: Sequence) -> bool:
    """Whether samples, and so their labels, are mixed somewhere in a pipeline."""
    return any(isinstance(op, Mixer) for op in within(transforms))
